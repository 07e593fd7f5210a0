"""Rondel: GitOps for Dagger."""

__version__ = "0.1.0"
