"""What a model looks at: attention maps and what they are made of."""
