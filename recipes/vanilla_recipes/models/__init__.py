"""Builds new models, and loads saved models of this package and transformers' own models."""
