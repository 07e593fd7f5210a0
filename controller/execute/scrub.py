"""Secrets never reach the log: their values are replaced before a line is written."""

import base64
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = b"***"
WRAPS = (76, 64)  # characters of base64 in a line
SHORTEST = 4  # bytes; shorter values would blot out ordinary words


class Scrubber:
    """Replaces secret values in bytes: as they are, in base64 (any alignment), URL-encoded."""

    def __init__(self, values: Iterable[str]) -> None:
        found = sorted({form for value in values for form in forms(value)}, key=len, reverse=True)
        self.longest = len(found[0]) if found else 0
        self._pattern = re.compile(b"|".join(map(re.escape, found))) if found else None

    def scrub(self, data: bytes) -> bytes:
        return self._pattern.sub(MASK, data) if self._pattern else data


def forms(value: str) -> Iterator[bytes]:
    """Yield every way a value may be written; a value of several lines goes line by line too."""
    for part in {value, *value.splitlines()}:
        plain = part.encode()
        if len(plain) >= SHORTEST:
            yield plain
            yield quote(part, safe="").encode()
            yield quote_plus(part).encode()
            yield from aligned(plain)


def aligned(plain: bytes) -> Iterator[bytes]:
    """Yield the base64 of a value wherever it stands in what was encoded.

    The first and last characters mix with the neighbours' bits, so they are left out. Long ones
    are yielded as the lines that `base64` and PEM files wrap them into, too.
    """
    for shift in range(3):
        start, whole = (0, 2, 3)[shift], (shift + len(plain)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield from worth_it(encode(b"\0" * shift + plain)[start:whole])
    yield base64.b64encode(plain)
    for width in WRAPS:
        yield from worth_it(*wrapped(base64.b64encode(plain), width))


def wrapped(text: bytes, width: int) -> Iterator[bytes]:
    if len(text) > width:
        yield from (text[start : start + width] for start in range(0, len(text), width))


def worth_it(*found: bytes) -> Iterator[bytes]:
    return (one for one in found if len(one) >= SHORTEST)
