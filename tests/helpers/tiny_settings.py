"""Overrides that make a run of any recipe small enough for a test."""

TINY = [
    "max_duration=2 steps",
    "evaluation.every=null",
    "evaluation.max_rows=4",
    "checkpoint.every=null",
    "precision=fp32",
    "data.num_train_rows=100",
    "data.num_validation_rows=10",
    "data.test_split=null",
    "batch.tokens=300",
    "optimizer.learning_rate=1e-2",
    "schedule.warmup=null",
]
