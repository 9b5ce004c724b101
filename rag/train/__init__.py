"""Training: one harness for all recipes, and the recipes."""
