"""Scores, generation for evaluation, and metrics (`evaluate.Metric`) that work offline."""
