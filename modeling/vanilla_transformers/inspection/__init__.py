"""Attention maps, the effects of heads on the loss, and pictures of position tables."""
