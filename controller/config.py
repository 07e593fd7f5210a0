"""File and environment to settings."""
