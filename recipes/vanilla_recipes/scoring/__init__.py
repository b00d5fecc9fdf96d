"""Scores as `evaluate.Metric` subclasses that work offline."""
