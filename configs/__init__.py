"""Experiments (YAML), one folder a recipe, and launch settings under `accelerate/`."""
