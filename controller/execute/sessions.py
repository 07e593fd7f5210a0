"""A run's session: one at a time, a new one when it was lost."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from controller.errors import TransientError
from controller.execute.ports import Executor, Session
from controller.model.run import Run
from controller.model.workflow import Workflow

CLOSE_SECONDS = 30.0  # for a session's own goodbye


class Sessions:
    def __init__(self, executor: Executor, run: Run, workflow: Workflow) -> None:
        self._executor, self._run, self._workflow = executor, run, workflow
        self._session: Session | None = None
        self._known: dict[str, str] = {}
        self._opening = asyncio.Lock()

    @property
    def open(self) -> bool:
        return self._session is not None

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of what the run has used so far, of sessions that were lost too."""
        now = self._session.versions if self._session is not None else {}
        return {**self._known, **now}

    async def begin(self) -> None:
        """Open the session. Raises as `Executor.open`."""
        self._session = await self._executor.open(self._run, self._workflow)

    async def current(self) -> Session:
        """Return the run's session; one that was lost is opened anew. Raises as `Executor.open`."""
        if self._session is None:
            async with self._opening:  # several steps may ask at once
                if self._session is None:
                    await self.begin()
        assert self._session is not None  # noqa: S101 - just opened
        return self._session

    async def resolve_image(self, image: str) -> str:
        """Return the image's name with its digest. Raises as `Session.resolve_image`."""
        session = await self.current()
        try:
            return await session.resolve_image(image)
        except TransientError:
            await self.drop(session)  # it may be lost; the next try opens another
            raise

    async def drop(self, lost: Session) -> None:
        """Close a session that was lost; several steps may notice."""
        if self._session is lost:
            self._known |= lost.versions
            self._session = None
            await close(lost)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await close(session)


async def close(session: Session) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await session.close()
