"""Ends of upstreams over crashes: each is open from its own transaction on until it is answered."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from controller.ends import Ends
from controller.model.changes import AnswerSchedule, CreateRun, FinishRun, ForgetSchedule
from controller.model.condition import WorkflowStatus
from controller.model.run import Phase, Run
from controller.model.source import Declaration
from controller.model.workflow import Upstream
from controller.observations import Key, Observations
from controller.reconcile.plan import Observed, plan
from controller.reconcile.upstream import open_name
from controller.recorder import Recorder
from controller.store import Store
from tests.store_lives import NOON, FixedClock, a_run

KEY = ("main", "second")
MARK = "upstream:main/first"
SECOND = Declaration(
    source="main",
    name="second",
    file="s.yaml",
    document=0,
    blob="b",
    spec_digest="d",
    upstreams=(Upstream(workflow="first"),),
)


class World:
    """A controller's memory over one store; a new one knows what the store knows."""

    def __init__(self, store: Store, observations: Observations) -> None:
        self.observations = observations
        self.recorder = Recorder(store, observations)
        self.looked: list[Key] = []
        self.ends = Ends(store, observations, self.recorder, self.looked.extend)

    async def end(self, name: str, minute: int) -> None:
        at = NOON + timedelta(minutes=minute)
        await self.recorder.record(FinishRun(run=name, phase=Phase.SUCCEEDED, at=at))

    async def answer(self) -> list[Run]:
        """Make a pass over the workflow that waits; return the runs that are new."""
        status = self.observations.status(KEY)
        await self.ends.recall(KEY, status)
        observed = Observed(
            key=KEY,
            status=status,
            active=self.observations.active(KEY),
            ends=self.ends.of(KEY),
        )
        changes = plan(SECOND, observed, NOON + timedelta(hours=1)).changes
        applied = await self.recorder.record(*changes)
        done = [one for one, written in zip(changes, applied, strict=True) if written]
        return [one.run for one in done if isinstance(one, CreateRun)]


@pytest.fixture
async def store(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock())
    yield store
    await store.close()


@pytest.fixture
async def begin(store) -> Callable[[], object]:
    async def beginning() -> World:
        statuses, active = await store.read(
            lambda reader: (reader.workflows(retired=True), reader.active())
        )
        return World(store, Observations(statuses, active))

    world = await beginning()
    await world.answer()  # its first sighting
    for name in ("one", "two"):
        run = a_run(name, source="main", workflow="first", phase=Phase.RUNNING)
        await world.recorder.record(CreateRun(run=run))
    return beginning


def upstreams(runs: list[Run]) -> list[str]:
    return [one.identity.split(":")[1] for one in runs]


async def test_of_two_ends_out_of_the_order_of_their_times_none_is_lost_to_a_crash(begin):
    world = await begin()
    await world.end("two", 5)
    assert upstreams(await world.answer()) == ["two"]
    await world.end("one", 4)  # earlier, and written later; then the crash
    again = await begin()
    assert upstreams(await again.answer()) == ["one"]
    last = await begin()
    assert await last.answer() == []


async def test_an_end_that_is_written_and_not_yet_told_when_another_is_answered_is_kept(
    begin, store
):
    world = await begin()
    await world.end("two", 5)
    at = NOON + timedelta(minutes=4)
    end = FinishRun(run="one", phase=Phase.SUCCEEDED, at=at)
    await store.record(world.ends.opened(end))  # nobody here hears of it
    assert upstreams(await world.answer()) == ["two"]
    again = await begin()
    assert upstreams(await again.answer()) == ["one"]


async def test_an_end_is_looked_at_by_those_who_wait_and_one_written_twice_opens_nothing(begin):
    world = await begin()
    await world.end("one", 4)
    assert world.looked == [KEY]
    await world.end("one", 6)
    assert [one.finished_at for one in world.ends.of(KEY)] == [NOON + timedelta(minutes=4)]
    assert len(await world.answer()) == 1
    assert world.ends.of(KEY) == ()


async def test_a_run_that_is_over_when_it_is_made_is_an_end_too(begin):
    world = await begin()
    skipped = a_run("three", source="main", workflow="first", phase=Phase.SKIPPED)
    await world.recorder.record(CreateRun(run=replace(skipped, finished_at=NOON)))
    assert [one.id for one in (await begin()).ends.of(KEY)] == []
    again = await begin()
    await again.ends.recall(KEY, again.observations.status(KEY))
    assert [one.id for one in again.ends.of(KEY)] == ["three"]


async def test_who_does_not_follow_any_more_is_told_of_no_end(begin):
    world = await begin()
    source, workflow = KEY
    await world.recorder.record(ForgetSchedule(source=source, workflow=workflow, schedule=MARK))
    await world.end("one", 4)
    assert (world.looked, world.ends.of(KEY)) == ([], ())


async def test_an_open_end_whose_run_is_not_kept_any_more_is_forgotten(begin):
    world = await begin()
    gone = a_run("gone", source="main", workflow="first", phase=Phase.SUCCEEDED)
    source, workflow = KEY
    await world.recorder.record(
        AnswerSchedule(source=source, workflow=workflow, schedule=open_name(gone), through=NOON)
    )
    assert await world.answer() == []
    status = world.observations.status(KEY)
    assert isinstance(status, WorkflowStatus)
    assert [*status.answered] == [MARK]
