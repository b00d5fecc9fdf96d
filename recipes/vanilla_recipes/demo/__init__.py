"""The demo page: what models answer, how likely they find it, what they attend to, and how fast they are."""
