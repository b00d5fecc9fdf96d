"""Rows, tokenizers, collators and the built-in corpora."""
