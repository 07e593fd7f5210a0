"""The one place that reads the process environment."""

import os
from collections.abc import Mapping


def get(name: str) -> str | None:
    """Return the variable's value, None when unset or empty."""
    return os.environ.get(name) or None


def snapshot() -> Mapping[str, str]:
    """Return a copy of the whole environment."""
    return dict(os.environ)
