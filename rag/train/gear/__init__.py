"""Training GeAR."""
