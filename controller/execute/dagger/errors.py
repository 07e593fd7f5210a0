"""What the engine's words mean: the step's fault, time heals it, or a person must act."""

import re
from typing import NamedTuple

from controller.execute.ports import Outcome, Verdict


class Meaning(NamedTuple):
    verdict: Verdict
    reason: str


# The first that is found decides; all are looked for without regard to case.
TABLE: tuple[tuple[str, Meaning], ...] = (
    (
        r"session attachables|no such session|session .*not found",
        Meaning(Verdict.TRANSIENT, "SessionLost"),
    ),
    (
        r"\b502\b|bad gateway|server disconnected|connection attempts failed",
        Meaning(Verdict.TRANSIENT, "SessionLost"),
    ),
    (
        r"\b429\b|too many requests|toomanyrequests",
        Meaning(Verdict.TRANSIENT, "RegistryUnavailable"),
    ),
    (
        r"no such host|temporary failure in name resolution|server misbehaving",
        Meaning(Verdict.TRANSIENT, "RegistryUnavailable"),
    ),
    (
        r"connection refused|connection reset|i/o timeout|tls handshake timeout|unexpected eof",
        Meaning(Verdict.TRANSIENT, "RegistryUnavailable"),
    ),
    (
        r"\b50[034]\b|service unavailable|gateway timeout|internal server error",
        Meaning(Verdict.TRANSIENT, "RegistryUnavailable"),
    ),
    (
        r"pull access denied|authorization failed|unauthorized|\b401\b|\b403\b|no basic auth",
        Meaning(Verdict.STALLED, "LoginFailed"),
    ),
    (
        r"manifest unknown|name unknown|failed to resolve.*not found|: not found",
        Meaning(Verdict.STALLED, "ImageNotFound"),
    ),
    (
        r"invalid reference format|could not parse reference",
        Meaning(Verdict.STALLED, "ImageInvalid"),
    ),
    (r"no space left on device", Meaning(Verdict.TRANSIENT, "EngineDiskFull")),
    (r"context deadline exceeded", Meaning(Verdict.TRANSIENT, "EngineTimeout")),
)
OTHER = Meaning(Verdict.STALLED, "EngineError")
LONGEST = 500  # characters of the engine's words that a run keeps


def meaning(text: str) -> Meaning:
    """Return what the engine's words mean."""
    for pattern, found in TABLE:
        if re.search(pattern, text, re.IGNORECASE):
            return found
    return OTHER


def outcome(text: str) -> Outcome:
    """Return the outcome of an attempt that the engine could not run."""
    found = meaning(text)
    return Outcome(verdict=found.verdict, reason=found.reason, error=brief(text))


def lost(text: str) -> Outcome:
    """Return the outcome of an attempt whose session is gone, whatever its words."""
    return Outcome(verdict=Verdict.TRANSIENT, reason="SessionLost", error=brief(text))


def brief(text: str) -> str:
    """Return the words without what only repeats them, bounded."""
    words = " ".join(text.split())
    return words if len(words) <= LONGEST else words[:LONGEST] + "..."
