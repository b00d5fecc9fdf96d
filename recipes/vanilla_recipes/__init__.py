"""Training recipes over one engine. The files in this folder are what a user runs."""
