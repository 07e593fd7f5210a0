"""The one place of hashing: canonical JSON, sha256 names, Git's blob ids."""

import hashlib
import json
from typing import Any


def canonical(value: Any) -> str:
    """Return `value` as canonical JSON text: sorted keys, no spaces, non-ASCII kept."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256(data: bytes | str) -> str:
    """Return `sha256:<64 hex>` of the data; text is taken as UTF-8."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def of_value(value: Any) -> str:
    """Return the digest of a JSON value, whatever the order of its keys."""
    return sha256(canonical(value))


def git_blob(data: bytes) -> str:
    """Return the id Git gives these bytes as a blob (40 hex)."""
    # Git's own name for content: used to compare with Git, never for security.
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
