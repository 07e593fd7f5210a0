"""Signed objects of Git: what of a commit or tag was signed, and by which signature.

Git's own rules (a signature is a header of a commit, and stands at the end of a tag), read by us:
what its commands print of a signature stands between lines that the author wrote.
"""

import re
from dataclasses import dataclass
from hashlib import sha1

GPG = (b"-----BEGIN PGP SIGNATURE-----", b"-----BEGIN PGP MESSAGE-----")
SSH = (b"-----BEGIN SSH SIGNATURE-----",)
OTHER = (b"-----BEGIN SIGNED MESSAGE-----",)  # X.509
LONGEST = 64 << 10  # bytes of a signature
MADE = re.compile(rb"^(?:committer|tagger) [^\n]*> (\d{1,12}) [+-]\d{4}$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Signed:
    """An object of Git: what is signed of it, and its signature; b"" for none."""

    what: str  # for messages: "commit 1234abcd"
    payload: bytes
    signature: bytes

    @property
    def kind(self) -> str:
        """Return gpg, ssh, or what else it is."""
        for kind, heads in (("gpg", GPG), ("ssh", SSH), ("X.509", OTHER)):
            if self.signature.startswith(heads):
                return kind
        return "unknown"

    @property
    def made_at(self) -> int:
        """Return when it was made, as it says itself: seconds since the epoch."""
        head = self.payload.partition(b"\n\n")[0]
        found = MADE.search(head)
        return int(found[1]) if found else 0


def is_itself(kind: str, identity: str, raw: bytes) -> bool:
    """Tell whether an object is the one that its id names."""
    head = f"{kind} {len(raw)}\0".encode()
    return sha1(head + raw, usedforsecurity=False).hexdigest() == identity


def commit(identity: str, raw: bytes) -> Signed:
    """Return a commit's parts.

    Raises:
        ValueError: it has more than one signature, or one that is too long.
    """
    head, blank, message = raw.partition(b"\n\n")
    payload: list[bytes] = []
    signatures: list[list[bytes]] = []
    field = b""
    for line in head.split(b"\n"):
        first, _, rest = line.partition(b" ")
        goes_on = line.startswith(b" ")
        field = field if goes_on else first
        if field == b"gpgsig":
            if not goes_on:
                signatures.append([])
            signatures[-1].append(rest)
        elif field != b"gpgsig-sha256":  # of its other name, which is no part of this one
            payload.append(line)
    if len(signatures) > 1:
        raise ValueError("has more than one signature")
    signature = bounded(b"\n".join(signatures[0])) if signatures else b""
    return Signed(f"commit {identity}", b"\n".join(payload) + blank + message, signature)


def tag(name: str, raw: bytes) -> Signed:
    """Return a tag's parts. Raises ValueError for a signature that is too long."""
    starts = [
        found.start()
        for head in (*GPG, *SSH, *OTHER)
        for found in re.finditer(rb"^" + re.escape(head), raw, re.MULTILINE)
    ]
    end = max(starts, default=len(raw))
    return Signed(f"tag {name}", raw[:end], bounded(raw[end:]))


def bounded(signature: bytes) -> bytes:
    if len(signature) > LONGEST:
        raise ValueError(f"has a signature of over {LONGEST >> 10} KiB")
    return signature


def tag_head(payload: bytes) -> dict[str, str]:
    """Return the fields of what was signed of a tag: object, type, tag."""
    lines = payload.partition(b"\n\n")[0].decode("utf-8", "surrogateescape").split("\n")
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        fields.setdefault(key, value)
    return fields
