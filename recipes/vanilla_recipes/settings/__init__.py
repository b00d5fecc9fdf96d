"""The settings of an experiment: read from YAML and overrides, and checked."""
