"""How many steps run at once in this process; first come, first served."""

import asyncio
from collections import deque


class Slots:
    """A semaphore that can be taken without an await when one is free."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiters: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take a slot if it costs no wait."""
        if self._free <= 0 or self._waiters:
            return False
        self._free -= 1
        return True

    async def acquire(self) -> None:
        """Wait for a slot and take it."""
        if self.take():
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()  # it was ours just as we gave up
            raise

    def release(self) -> None:
        """Give a slot back: to the one who waits longest, if any does."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1
