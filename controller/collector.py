"""Python's cycle collector, set aside while only things are made that stay.

A start makes a million objects; tracing them again and again is a third of its time.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def off() -> Iterator[None]:
    """Collect nothing inside the block."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def pause() -> None:
    """Collect nothing until `resume` or `settle`."""
    gc.disable()


def resume() -> None:
    gc.enable()


def settle() -> None:
    """Collect again, but never look at what is there by now: it stays."""
    gc.freeze()
    gc.enable()
