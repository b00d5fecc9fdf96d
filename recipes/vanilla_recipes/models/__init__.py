"""Builds new models, and loads saved models of this package and stock models of transformers."""
