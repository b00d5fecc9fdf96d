"""The files of a run folder: writing, reading and deleting checkpoints."""
