"""Where a list goes on: opaque to callers."""

import base64
import binascii
from datetime import datetime

from controller.errors import UsageError


def encode(moment: datetime, name: str) -> str:
    return base64.urlsafe_b64encode(f"{moment.isoformat()} {name}".encode()).decode()


def decode(cursor: str) -> tuple[datetime, str]:
    """Return what `encode` was given. Raises UsageError."""
    try:
        moment, _, name = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        return datetime.fromisoformat(moment), name
    except (ValueError, binascii.Error) as error:
        raise UsageError("no such cursor", remedy="take `next` of the page before") from error
