"""Looks that people ask for and wait for: which of them a look has answered."""


class Requests:
    """Counts requests from 1; a look answers those that were made before it began."""

    def __init__(self) -> None:
        self._made = 0
        self._taken = 0  # by the look that goes on
        self.answered = 0

    def make(self) -> int:
        """Take a request in; return its number."""
        self._made += 1
        return self._made

    def begin(self) -> bool:
        """Begin a look; tell whether somebody waits for what it finds."""
        asked, self._taken = self._made > self._taken, self._made
        return asked

    def end(self) -> None:
        """End the look: what it found is told next."""
        self.answered = self._taken
