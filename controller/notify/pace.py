"""How fast words go out: a burst is gathered, a far side that is down is left alone for a while."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from controller import ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds, but for `keep`."""

    gather: float = 2.0  # what comes up within this becomes one message
    burst: int = 5  # messages of an alert that may go out one after another
    refill: float = 60.0  # until one more may
    first: float = 5.0  # before the second try; doubled with each
    most: float = 300.0
    limit: float = 30.0  # one try may take this long
    poll: float = 15.0  # when nobody said that something waits
    keep: timedelta = timedelta(days=3)  # then it is given up

    def pause(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row, with jitter."""
        wait = min(self.first * 2.0 ** min(failures - 1, 16), self.most)
        return ids.spread(wait, 0.25)

    def is_too_old(self, at: datetime, now: datetime) -> bool:
        return now - at > self.keep


class Bucket:
    """Lets `burst` messages through at once, and one more each `refill` seconds."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._left = float(pace.burst)
        self._at = 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until a message may go; 0 when one may now."""
        self._fill(now)
        return 0.0 if self._left >= 1 else (1 - self._left) * self._pace.refill

    def take(self, now: float) -> None:
        self._fill(now)
        self._left -= 1

    def _fill(self, now: float) -> None:
        gained = max(now - self._at, 0.0) / self._pace.refill
        self._left, self._at = min(self._left + gained, float(self._pace.burst)), now
