"""Where a model comes from: a new one, a saved one, a stock one."""
