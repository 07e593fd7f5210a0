"""One webhook that a receiver took: who sent it doesn't matter, only that it was signed."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What is known of a webhook; its payload is not kept and reaches no run."""

    receiver: str
    id: str  # the sender's, else the digest of what was signed
    marks: tuple[str, ...]  # any of them seen before makes it a replay
    at: datetime

    @property
    def identity(self) -> str:
        """The trigger's identity: it starts a workflow once."""
        return f"webhook:{self.receiver}:{self.id}"
