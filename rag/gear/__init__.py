"""GeAR: a bi-encoder that also points at the sentence (Liu et al. 2025, arXiv 2501.02772)."""
