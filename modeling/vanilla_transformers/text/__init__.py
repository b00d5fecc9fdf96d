"""Generates answers to texts: pipelines, languages, sentences, batches."""
