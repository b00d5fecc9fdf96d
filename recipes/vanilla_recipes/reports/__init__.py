"""Figures of a run: metrics, progress, trackers, plots."""
