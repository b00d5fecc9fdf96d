"""The training loop of all recipes and its parts. It contains no code for a particular task."""
