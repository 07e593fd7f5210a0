"""The one place that reads the process environment."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


def get(name: str) -> str | None:
    """Return the variable's value, None when unset or empty."""
    return os.environ.get(name) or None


def snapshot() -> Mapping[str, str]:
    """Return a copy of the whole environment."""
    return dict(os.environ)


@contextmanager
def exported(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for a moment, for a library that reads nothing else; then as they were."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
