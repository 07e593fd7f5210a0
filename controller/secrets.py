"""A secret's name to its value."""
