"""The code that travels with a model: every file here is saved beside its weights, and nothing else is."""
