"""Whether an attempt is tried again, and when. Jitter comes from a digest, so this stays pure."""

import hashlib
from datetime import timedelta
from enum import StrEnum

from controller.model.workflow import Backoff, Retry, RetryPolicy


class Ending(StrEnum):
    """How an attempt ended, as far as retrying cares."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"  # the step said no, or ran out of time
    ERROR = "Error"  # Rondel or the engine couldn't


def again(
    retry: Retry, ending: Ending, *, exit_code: int | None, tried: int, elapsed: timedelta
) -> bool:
    """Tell whether a step is tried once more by its own `retry`.

    Args:
        retry: the step's words.
        ending: of the attempt just over.
        exit_code: of its process; None when it had none (a timeout, an error).
        tried: attempts so far that count against `limit`.
        elapsed: since the step's first attempt began.
    """
    if ending is Ending.SUCCEEDED or tried > retry.limit:
        return False
    if retry.max_elapsed is not None and elapsed >= retry.max_elapsed:
        return False
    return covers(retry.policy, ending) and wanted(retry, exit_code)


def covers(policy: RetryPolicy, ending: Ending) -> bool:
    match policy:
        case RetryPolicy.ALWAYS:
            return True
        case RetryPolicy.ON_FAILURE:
            return ending is Ending.FAILED
        case RetryPolicy.ON_ERROR:
            return ending is Ending.ERROR


def wanted(retry: Retry, exit_code: int | None) -> bool:
    return retry.exit_codes is None or exit_code is None or exit_code in retry.exit_codes


def delay(backoff: Backoff, run: str, step: str, number: int) -> timedelta:
    """Return the wait after attempt `number` (from 1): exponential, capped, with full jitter."""
    grown = backoff.duration.total_seconds() * backoff.factor ** min(number - 1, 64)
    longest = min(grown, backoff.max_duration.total_seconds())
    if not backoff.jitter:
        return timedelta(seconds=longest)
    return timedelta(seconds=longest * fraction(run, step, number))


def fraction(*parts: object) -> float:
    """Return a number in [0, 1) that these parts decide."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56
