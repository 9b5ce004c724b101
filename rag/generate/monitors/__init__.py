"""Monitors: what may come next, decided from the text so far and not by the model."""
