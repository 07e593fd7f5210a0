"""Ends of upstream runs, each open for every workflow that waits for it until it is answered.

What opens an end is written in the transaction that ends the run, what closes it in the one that
answers it: no order of ends is relied on, and no clock.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from controller.model.changes import AnswerSchedule, Change, CreateRun, FinishRun, ForgetSchedule
from controller.model.condition import WorkflowStatus
from controller.model.run import Run
from controller.observations import Key, Observations
from controller.reconcile import upstream
from controller.recorder import Recorder
from controller.store import Store


class Ends:
    """What the planner is told of upstreams; the store has it too, by the same changes."""

    def __init__(
        self,
        store: Store,
        observations: Observations,
        recorder: Recorder,
        enqueue: Callable[[Iterable[Key]], None],
    ) -> None:
        self._store = store
        self._observations = observations
        self._enqueue = enqueue
        self._followers: dict[Key, set[Key]] = {}  # upstream -> its downstreams
        self._inboxes: dict[Key, dict[str, Run]] = {}  # downstream -> open end -> the run
        for key in sorted(observations.keys()):
            status = observations.status(key)
            for name in status.answered if status else ():
                self._follow(key, name)
        observations.follow_ends(self.take)
        recorder.complete_with(self.opened)
        recorder.follow(self.note)

    def of(self, key: Key) -> tuple[Run, ...]:
        """Return the ends that a workflow has not answered."""
        return tuple(self._inboxes.get(key, {}).values())

    def opened(self, change: Change) -> Change:
        """Return a change that ends a run with what it opens; any other as it is."""
        run = self._ended_by(change)
        followers = self._followers.get((run.source, run.workflow)) if run else None
        if not (run and followers and isinstance(change, CreateRun | FinishRun)):
            return change
        return replace(change, opens=tuple(upstream.opened(key, run) for key in sorted(followers)))

    def _ended_by(self, change: Change) -> Run | None:
        match change:
            case CreateRun(run=run) if run.phase.terminal and run.parent is None:
                return run
            case FinishRun(run=run_id, at=at):
                found = self._observations.run(run_id)
                return replace(found, finished_at=at) if found else None
            case _:
                return None

    def take(self, run: Run, opens: Iterable[AnswerSchedule]) -> None:
        """A run has ended: whoever waits for it is looked at."""
        waiting = [(one.source, one.workflow) for one in opens]
        for key in waiting:
            self._put(key, run)
        self._enqueue(waiting)

    def note(self, change: Change) -> None:
        """Follow an upstream from its first sighting on; drop an end that was answered."""
        match change:
            case AnswerSchedule(source=source, workflow=workflow, schedule=name):
                self._follow((source, workflow), name)
            case ForgetSchedule(source=source, workflow=workflow, schedule=name):
                self._forget((source, workflow), name)
            case _:
                pass

    async def recall(self, key: Key, status: WorkflowStatus | None) -> None:
        """Read the runs of ends that were open before the start.

        Of a run that was retried meanwhile the end that comes counts; one that is not kept any
        more has nothing to tell: the planner sees neither, and forgets them.

        Raises:
            TransientError: the store can't be read; what is missing is asked for again.
        """
        known = self._inboxes.get(key, {})
        missing = {
            name: run_id
            for name in (status.answered if status else ())
            if name not in known and (run_id := upstream.run_of(name))
        }
        if not missing:
            return
        ids = sorted({*missing.values()})
        found = await self._store.read(lambda reader: [reader.run(one) for one in ids])
        for run in found:
            if run is not None and upstream.open_name(run) in missing:
                self._put(key, run)

    def _put(self, key: Key, run: Run) -> None:
        self._inboxes.setdefault(key, {})[upstream.open_name(run)] = run

    def _follow(self, key: Key, name: str) -> None:
        if (followed := upstream.followed(name)) is not None:
            self._followers.setdefault(followed, set()).add(key)

    def _forget(self, key: Key, name: str) -> None:
        if (followed := upstream.followed(name)) is not None:
            self._followers.get(followed, set()).discard(key)
        inbox = self._inboxes.get(key, {})
        inbox.pop(name, None)
        if not inbox:
            self._inboxes.pop(key, None)
