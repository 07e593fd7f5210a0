"""The one place of randomness: nonces, tokens and the ids of manual runs."""

import secrets


def nonce() -> str:
    """Return 32 hex digits that no one can guess; marks the processes of one step attempt."""
    return secrets.token_hex(16)


def token() -> str:
    """Return a token of the API: 256 random bits behind a prefix that scanners can look for."""
    return f"rondel_{secrets.token_urlsafe(32)}"


def spread(seconds: float, fraction: float) -> float:
    """Return `seconds` moved by up to `fraction` of itself either way, so that polls don't meet."""
    return seconds * (1 + fraction * (2 * secrets.randbelow(10_000) / 9_999 - 1))
