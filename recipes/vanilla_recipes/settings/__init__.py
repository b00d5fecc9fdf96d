"""What the user has written: configurations, checked."""
