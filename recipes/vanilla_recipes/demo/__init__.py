"""The demo page: answers of models with probabilities, attention maps and speed."""
