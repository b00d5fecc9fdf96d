"""Devices, distributed processes, and gathering of sharded tensors."""
