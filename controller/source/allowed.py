"""The keys that a source allows: files of GPG and SSH, told apart by their content."""

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from controller.errors import UnverifiedError

PGP = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
KRL = b"SSHKRL\n\0"
LARGEST = 4 << 20  # bytes of one file
KEY_TYPE = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+\Z")
LINE_WORDS = 3  # of an allowed signer: principals, type, key
REMEDY = "name files of armoured GPG keys, SSH public keys or allowed signers"


@dataclass(frozen=True, slots=True)
class Allowed:
    """Who may sign, and the digest of what says so."""

    gpg: tuple[bytes, ...]  # armoured keys
    signers: str  # ssh's file of allowed signers
    revoked: tuple[bytes, ...]  # ssh's lists of revoked keys
    digest: str


def read_keys(paths: tuple[str, ...]) -> Allowed:
    """Read the keys as the files have them now.

    Raises:
        UnverifiedError: KeysUnreadable.
    """
    gpg, revoked, signers, digest = [], [], "", sha256()
    for path in paths:
        content = content_of(path)
        digest.update(b"%d\0" % len(content) + content)
        if PGP in content:
            gpg.append(content)
        elif content.startswith(KRL):
            revoked.append(content)
        else:
            signers += allowed_signers(path, content)
    return Allowed(tuple(gpg), signers, tuple(revoked), digest.hexdigest())


def content_of(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error
    if len(content) > LARGEST:
        raise unreadable(path, f"is over {LARGEST >> 20} MiB")
    if b"PRIVATE KEY" in content:
        raise unreadable(path, "is a private key")
    return content


def allowed_signers(path: str, content: bytes) -> str:
    """Return the lines of allowed signers; a bare public key signs under its file's name."""
    lines = []
    name = re.sub(r"[^A-Za-z0-9._@+-]", "-", Path(path).stem)
    for line in content.decode("utf-8", "replace").split("\n"):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if KEY_TYPE.match(words[0]):
            lines.append(f'{name} namespaces="git" {" ".join(words[:2])}\n')
        elif len(words) >= LINE_WORDS:
            lines.append(line.strip() + "\n")
        else:
            raise unreadable(path, f"{words[0][:40]!r} begins no line of a key")
    if not lines:
        raise unreadable(path, "holds no key")
    return "".join(lines)


def unreadable(path: str, problem: str) -> UnverifiedError:
    return UnverifiedError(problem, reason="KeysUnreadable", where=path, remedy=REMEDY)
