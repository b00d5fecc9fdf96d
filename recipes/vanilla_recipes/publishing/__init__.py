"""Publishing that is proved: a model is loaded elsewhere and compared before it goes to the Hub."""
