"""Who signed a webhook: what each kind of sender puts in its headers, checked in constant time."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

TOLERANCE_SECONDS = 300
"""How far a signed time may be from ours, either way."""

STANDARD_SECRET = "whsec_"  # noqa: S105 - the prefix of secrets, not one
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

Headers = Mapping[str, str]
"""Names are lower case."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A webhook whose signature holds."""

    id: str
    marks: tuple[str, ...]  # any of them seen before makes it a replay
    ping: bool = False  # the sender only tries the door


def verify(kind: str, headers: Headers, body: bytes, secret: str, now: datetime) -> Signed | None:
    """Return what was signed; None when the signature is missing, wrong or too old.

    Args:
        kind: github, gitlab, gitea, generic.
        headers: of the request.
        body: exactly as it came.
        secret: shared with the sender; an empty one verifies nothing.
        now: this moment, against signed times.
    """
    return _KINDS[kind](headers, body, secret, now.timestamp()) if secret else None


def _github(headers: Headers, body: bytes, secret: str, _: float) -> Signed | None:
    given = headers.get("x-hub-signature-256", "")
    if not _same(given, f"sha256={_hex(secret.encode(), body)}"):
        return None
    ping = headers.get("x-github-event") == "ping"
    return _of_body(headers.get("x-github-delivery"), body, ping=ping)


def _gitea(headers: Headers, body: bytes, secret: str, _: float) -> Signed | None:
    if not _same(headers.get("x-gitea-signature", ""), _hex(secret.encode(), body)):
        return None
    return _of_body(headers.get("x-gitea-delivery"), body)


def _gitlab(headers: Headers, body: bytes, secret: str, now: float) -> Signed | None:
    """GitLab's signing token begins with `whsec_`; anything else is its plain secret token."""
    if secret.startswith(STANDARD_SECRET):
        return _standard(headers, body, secret, now)
    if not _same(headers.get("x-gitlab-token", ""), secret):
        return None
    given = headers.get("idempotency-key") or headers.get("x-gitlab-event-uuid")
    if given is None or not _ID.fullmatch(given):
        return _of_body(None, body)
    return Signed(given, (f"id:{given}",))  # nothing of it is signed; two pushes may look alike


def _standard(headers: Headers, body: bytes, secret: str, now: float) -> Signed | None:
    """The form of Standard Webhooks: the id and the time are signed with the body."""
    try:
        key = base64.b64decode(secret.removeprefix(STANDARD_SECRET), validate=True)
    except binascii.Error:
        return None
    given, time = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not key or not _ID.fullmatch(given) or not _is_near(time, now):
        return None
    signed = b".".join((given.encode(), time.encode(), body))
    right = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    listed = headers.get("webhook-signature", "").split()
    if not any(_same(one, right) for one in listed):
        return None
    return Signed(given, (f"id:{given}",))


def _generic(headers: Headers, body: bytes, secret: str, now: float) -> Signed | None:
    time = headers.get("x-rondel-timestamp", "")
    if not _is_near(time, now):
        return None
    right = _hex(secret.encode(), b".".join((time.encode(), body)))
    if not _same(headers.get("x-rondel-signature", ""), f"sha256={right}"):
        return None
    return _marked(headers.get("x-rondel-delivery"), right)


_KINDS: Mapping[str, Callable[[Headers, bytes, str, float], Signed | None]] = {
    "github": _github,
    "gitea": _gitea,
    "gitlab": _gitlab,
    "generic": _generic,
}


def _of_body(given: str | None, body: bytes, *, ping: bool = False) -> Signed:
    return _marked(given, hashlib.sha256(body).hexdigest(), ping=ping)


def _marked(given: str | None, signed: str, *, ping: bool = False) -> Signed:
    """The sender's id is not signed: whoever repeats the rest under another one is known by it."""
    name = given if given and _ID.fullmatch(given) else signed
    return Signed(name, (f"id:{name}", f"signed:{signed}"), ping)


def _is_near(time: str, now: float) -> bool:
    return re.fullmatch(r"[0-9]{1,12}", time) is not None and (
        abs(now - int(time)) <= TOLERANCE_SECONDS
    )


def _hex(key: bytes, message: bytes) -> str:
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode())
