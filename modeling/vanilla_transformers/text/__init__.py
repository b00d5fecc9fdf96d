"""From texts to answers: pipelines, languages, sentences, batches of texts."""
