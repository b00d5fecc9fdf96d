"""Text generation with encoder-decoders: pipelines, languages, sentences, batches."""
