"""Git LFS pointers: small files that stand for an object, named by its SHA-256 and size."""

import re
from dataclasses import dataclass, field

LONGEST = 1023  # bytes; a longer file is no pointer
SHORTEST = 100
VERSIONS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
LINES = re.compile(
    rb"version https://(?:git-lfs|hawser)\.github\.com/spec/v1\n"
    rb"oid sha256:([0-9a-f]{64})\nsize (\d{1,19})\n?\Z"
)
LARGEST = 4 << 30  # bytes of one object
OID_DIGITS = 64  # Git's own ids have 40


@dataclass(frozen=True, slots=True)
class Pointer:
    """An object of Git LFS."""

    oid: str  # SHA-256, 64 hex
    size: int  # bytes
    path: str = field(default="", compare=False)  # where one of it stood, for messages


def claims_to_be(data: bytes) -> bool:
    return len(data) <= LONGEST and data.startswith(VERSIONS)


def pointer(data: bytes, path: str = "") -> Pointer:
    """Return what a file at `path` points to, which claims to be a pointer.

    Raises:
        ValueError: it can't be followed, and why.
    """
    found = LINES.match(data)
    if found is None:
        raise ValueError("is a Git LFS pointer of a kind that isn't followed")
    one = Pointer(found[1].decode(), int(found[2]), path)
    if one.size > LARGEST:
        limit = f"{LARGEST >> 30} GiB"
        raise ValueError(f"is a Git LFS object of {one.size:,} bytes; {limit} are fetched at most")
    return one


def is_large(blob: str) -> bool:
    """Tell whether an entry's blob is an object of Git LFS."""
    return len(blob) == OID_DIGITS
