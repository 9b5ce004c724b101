"""Training the token classifier of prompt compression."""
