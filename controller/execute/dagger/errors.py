"""What the engine's words mean: the step's fault, time heals it, or a person must act."""

import re
from typing import NamedTuple

from controller.errors import RondelError, StalledError, TransientError
from controller.execute import companions
from controller.execute.ports import Outcome, Verdict


class Meaning(NamedTuple):
    verdict: Verdict
    reason: str


STATUS = r"status(?: code)?:? (?:from \S+ request:? )?"  # a bare number may be an image's tag

LOST = Meaning(Verdict.TRANSIENT, "SessionLost")
AWAY = Meaning(Verdict.TRANSIENT, "RegistryUnavailable")
LOGIN = Meaning(Verdict.STALLED, "LoginFailed")
NOT_FOUND = Meaning(Verdict.STALLED, "ImageNotFound")
INVALID = Meaning(Verdict.STALLED, "ImageInvalid")
NOT_READY = Meaning(Verdict.STALLED, companions.NOT_READY)
SERVICE_ENDED = Meaning(Verdict.STALLED, companions.ENDED)
USER = Meaning(Verdict.STALLED, "UserUnknown")

# The first that is found decides; all are looked for without regard to case.
TABLE: tuple[tuple[str, Meaning], ...] = (
    (r"bound service .*exited", SERVICE_ENDED),
    (r"exited before healthcheck|health check errored", NOT_READY),
    (r"no such (user|group)|unable to find (user|group)", USER),
    (rf"failed to resolve image.*(bad gateway|{STATUS}502)", AWAY),
    (r"session attachables|no such session|session \S+ not found", LOST),
    (rf"bad gateway|{STATUS}502", LOST),
    (r"server disconnected|all connection attempts failed", LOST),
    (r"engine .*shutting down|client .*disconnected|context canceled", LOST),
    (r"no space left on device", Meaning(Verdict.TRANSIENT, "EngineDiskFull")),
    (rf"too many requests|toomanyrequests|{STATUS}429", AWAY),
    (r"no such host|temporary failure in name resolution|server misbehaving", AWAY),
    (r"connection refused|connection reset|network is unreachable|no route to host", AWAY),
    (r"i/o timeout|tls handshake timeout|unexpected eof", AWAY),
    (rf"service unavailable|gateway time-?out|internal server error|{STATUS}50[034]", AWAY),
    (r"pull access denied|authorization failed|no basic auth|authentication required", LOGIN),
    (rf"unauthorized|forbidden|{STATUS}40[13]", LOGIN),
    (r"manifest unknown|name unknown|failed to resolve image.*: not found", NOT_FOUND),
    (r"invalid reference format|failed to parse image address", INVALID),
    (r"no match for platform|exec format error", INVALID),
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


def raised(outcome: Outcome, image: str) -> RondelError:
    """Return the error that stands for an image that could not be resolved."""
    kind = TransientError if outcome.verdict is Verdict.TRANSIENT else StalledError
    return kind(outcome.error, where=f"image {image}", reason=outcome.reason)


def brief(text: str) -> str:
    """Return the words without what only repeats them, bounded."""
    words = " ".join(text.split())
    return words if len(words) <= LONGEST else words[:LONGEST] + "..."
