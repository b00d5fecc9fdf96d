"""The original Transformer and its BERT- and GPT-style descendants as Hugging Face models."""
