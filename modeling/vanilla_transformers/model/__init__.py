"""The model code. `save_pretrained` saves these files, and no other code, beside the weights of a model."""
