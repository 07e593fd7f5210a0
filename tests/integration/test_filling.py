"""Backfills are written in batches: others come between, and a kill at any of them loses none."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from controller.filling import Filling
from controller.model.changes import FinishRun
from controller.model.run import Phase, Run
from controller.model.source import Declaration
from controller.model.workflow import Schedule
from controller.observations import Observations
from controller.reconcile.backfill import BATCH, Wish, closed, runs_of
from controller.reconcile.plan import Observed, plan
from controller.recorder import Recorder
from controller.store import Store, retention
from tests.store_lives import NOON, FixedClock

KEY = ("main", "w")
DECLARED = Declaration(
    source="main",
    name="w",
    file="w.yaml",
    document=0,
    blob="b",
    spec_digest="d",
    schedules=(Schedule(name="minutes", cron="* * * * *"),),
)
BATCHES = 5
WISH = Wish(begin="2027-03-01", end="2027-03-02", key="k", schedule="minutes", limit=2_000)
RUNS = runs_of(DECLARED, WISH, NOON)[: BATCH * BATCHES - 7]


async def as_they_are(runs: Sequence[Run]) -> Sequence[Run]:
    return [replace(run, spec="spec") for run in runs]


class World:
    """A controller's memory over one store; a new one knows what the store knows."""

    def __init__(self, store: Store, observations: Observations) -> None:
        self.observations = observations
        self.turn = asyncio.Lock()
        self.recorder = Recorder(store, observations)
        self.filling = Filling(
            store=store, recorder=self.recorder, observations=observations, turn=self.turn
        )

    async def fill(self) -> int:
        return await self.filling.fill(RUNS, as_they_are)

    def written(self) -> int:
        return len(self.observations.active(KEY))

    def answered(self) -> list[str]:
        status = self.observations.status(KEY)
        return [*status.answered] if status else []


@pytest.fixture
async def store(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock())
    yield store
    await store.close()


async def begin(store: Store) -> World:
    await store.write(lambda _: None)  # what was queued is written
    statuses, active = await store.read(
        lambda reader: (reader.workflows(retired=True), reader.active())
    )
    return World(store, Observations(statuses, active))


async def killed(store: Store, after: int) -> World:
    """Begin the backfill, end it in its midst, and return the controller that is started next."""
    world = await begin(store)
    writing = asyncio.create_task(world.fill())
    while world.written() < after * BATCH:
        async with world.turn:
            pass
        await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    return await begin(store)


async def ids(store: Store) -> set[str]:
    return await store.read(lambda reader: reader.run_ids())


async def test_who_waits_for_the_turn_has_it_between_the_batches(store):
    world = await begin(store)
    writing = asyncio.create_task(world.fill())
    seen = set()
    while not writing.done():
        async with world.turn:
            seen.add(world.written())
        await asyncio.sleep(0)
    assert await writing == len(RUNS)
    assert {number * BATCH for number in range(1, BATCHES)} <= seen
    assert world.answered() == []


@pytest.mark.parametrize("after", range(1, BATCHES))
async def test_killed_after_any_batch_the_same_request_goes_on_and_doubles_nothing(store, after):
    await seen_once(store)
    again = await killed(store, after)
    before = await ids(store)
    assert after * BATCH <= len(before) <= min((after + 1) * BATCH, len(RUNS))
    assert await again.fill() == len(RUNS) - len(before)
    assert await ids(store) == {run.id for run in RUNS}
    assert await again.fill() == 0
    assert await (await begin(store)).fill() == 0


async def test_what_was_written_and_is_not_kept_any_more_is_not_made_again(store):
    await seen_once(store)
    again = await killed(store, 2)
    gone = RUNS[0].id
    await again.recorder.record(FinishRun(run=gone, phase=Phase.SUCCEEDED, at=NOON))
    await store.write(retention.drop_runs([gone]))
    await again.fill()
    assert await ids(store) == {run.id for run in RUNS[1:]}


async def test_a_pass_leaves_the_mark_and_a_cancelled_backfill_is_not_gone_on_with(store):
    await seen_once(store)
    again = await killed(store, 2)
    observed = Observed(key=KEY, status=again.observations.status(KEY))
    marks = [one for one in again.answered() if one.startswith("backfill:")]
    assert len(marks) == 1
    await again.recorder.record(*plan(DECLARED, observed, NOON).changes)
    assert marks[0] in again.answered()
    before = await ids(store)
    await again.recorder.record(closed(RUNS[0]))
    assert await again.fill() == 0
    assert await ids(store) == before


async def test_cancelled_while_it_is_written_it_ends_where_it_is(store):
    world = await begin(store)
    writing = asyncio.create_task(world.fill())
    while world.written() < BATCH:
        await asyncio.sleep(0)
    async with world.turn:
        await world.recorder.record(closed(RUNS[0]))
    created = await writing
    assert BATCH <= created < len(RUNS)
    assert len(await ids(store)) == created


async def seen_once(store: Store) -> None:
    world = await begin(store)
    await world.recorder.record(*plan(DECLARED, Observed(key=KEY, status=None), NOON).changes)
