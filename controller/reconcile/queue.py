"""Keys to look at: now, once each, or at a moment."""

import heapq
from datetime import datetime
from typing import Generic, TypeVar

Key = TypeVar("Key")
SLACK = 64  # replaced wake-ups that aren't worth a sweep


class WorkQueue(Generic[Key]):
    """A set of ready keys and a heap of wake-ups; one wake-up a key, the newest word counts."""

    def __init__(self) -> None:
        self._ready: dict[Key, None] = {}  # in the order they came
        self._heap: list[tuple[datetime, int, Key]] = []
        self._due: dict[Key, tuple[datetime, int]] = {}
        self._count = 0  # breaks ties, so that keys needn't be ordered

    def add(self, key: Key) -> None:
        """Look at `key` now. Adding it twice is adding it once."""
        self._ready[key] = None

    def add_at(self, key: Key, when: datetime) -> None:
        """Look at `key` at `when`, in place of any wake-up it had."""
        if key in self._due and self._due[key][0] == when:
            return
        self._count += 1
        self._due[key] = (when, self._count)
        heapq.heappush(self._heap, (when, self._count, key))
        if len(self._heap) > SLACK + 2 * len(self._due):
            self._sweep()

    def pop_ready(self, now: datetime) -> list[Key]:
        """Return the keys to look at now; they are no longer in the queue."""
        while self._heap and self._heap[0][0] <= now:
            when, count, key = heapq.heappop(self._heap)
            if self._due.get(key) == (when, count):
                del self._due[key]
                self._ready[key] = None
        ready, self._ready = list(self._ready), {}
        return ready

    def _sweep(self) -> None:
        """Drop replaced wake-ups, so that the heap stays as small as the keys are few."""
        self._heap = [(when, count, key) for key, (when, count) in self._due.items()]
        heapq.heapify(self._heap)

    def next_at(self) -> datetime | None:
        """Return when the next key wakes; None when none does."""
        while self._heap:
            when, count, key = self._heap[0]
            if self._due.get(key) == (when, count):
                return when
            heapq.heappop(self._heap)  # replaced by a newer wake-up
        return None
