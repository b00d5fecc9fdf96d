"""Reports a run's metrics: progress line, `metrics.jsonl`, curves, trackers and FLOPs."""
