"""What the words need of the house."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from controller.model.run import Event
from controller.model.word import CommitState, Unsaid, Word


class Secrets(Protocol):
    async def operator(self, name: str) -> str:
        """Return a secret's value. Raises StalledError or TransientError."""
        ...


class Outbox(Protocol):
    """Keeps what is to be told until it was. Every method may raise TransientError."""

    async def waiting(self) -> tuple[Collection[str], Collection[str]]:
        """Return the alerts, and the sources, that have something to tell."""
        ...

    async def words(self, alert: str, limit: int) -> list[Word]:
        """Return what an alert has to tell, the oldest first."""
        ...

    async def statuses(self, source: str, limit: int) -> list[Unsaid]:
        """Return what a source's commits are to be told: the oldest first, summaries last."""
        ...

    async def work(
        self, source: str, commit: str, names: int
    ) -> tuple[Mapping[CommitState, int], list[str]]:
        """Return how many workflows of a commit are in which state, and some that went badly."""
        ...

    async def drop_words(self, words: Iterable[Word], events: Iterable[Event] = ()) -> None:
        """Forget words that were told, or given up as the events say."""
        ...

    async def note_said(self, one: Unsaid, said: str, events: Iterable[Event] = ()) -> None:
        """Note that a forge knows, or will never know, this change of a status."""
        ...
