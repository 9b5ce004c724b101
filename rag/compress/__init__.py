"""Prompt compression: the words worth keeping, each with its place in the source."""
