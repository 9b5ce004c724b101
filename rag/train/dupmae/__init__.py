"""Training the dense-lexical duplex retriever: pre-training, then fine-tuning in stages."""
