"""Waiting for one of several things."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def unless(stop: asyncio.Event, wanted: Awaitable[T]) -> T | None:
    """Return what is awaited; None when `stop` is set before it comes."""
    coming, stopped = asyncio.ensure_future(wanted), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({coming, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return coming.result() if coming.done() else None
    finally:
        for one in (coming, stopped):
            one.cancel()
        await asyncio.wait({coming, stopped})
