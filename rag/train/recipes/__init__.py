"""Recipes that come with the product, by name."""
