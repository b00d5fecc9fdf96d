"""The files of a run folder: checkpoints, and which of them are kept."""
