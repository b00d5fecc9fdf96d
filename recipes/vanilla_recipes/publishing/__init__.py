"""Publishes models on the Hub, after a check that another process loads the same model."""
