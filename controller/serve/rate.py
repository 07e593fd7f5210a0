"""How often somebody may knock: a bucket of tokens for each peer, few peers at a time."""

from collections import OrderedDict

PER_SECOND = 10.0
BURST = 100.0
PEERS = 1024  # remembered; the one that was silent longest is forgotten


class Rate:
    """Bounds requests of each peer to `PER_SECOND`, after a burst."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, as of when

    def admits(self, peer: str, now: float) -> bool:
        """Tell whether one more request of `peer` is taken at `now`, in monotonic seconds."""
        left, since = self._left.pop(peer, (BURST, now))
        left = min(BURST, left + (now - since) * PER_SECOND)
        admitted = left >= 1
        self._left[peer] = (left - 1 if admitted else left, now)
        if len(self._left) > PEERS:
            self._left.popitem(last=False)
        return admitted
