"""The wall clock is set while the controller works: by an hour, by a year, either way."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from controller import daemon
from controller.model.run import Phase
from controller.model.settings import DirectorySource, Settings
from tests.controlled import running
from tests.e2e.controller_process import manifest

EACH_SECOND = "  schedules: [{name: tick, cron: '* * * * * *'}]\n"
HOURLY = "  schedules: [{name: tick, cron: '0 * * * *'}]\n  catchUp: Latest\n"
BEGAN = datetime(2027, 3, 3, 12, 30, tzinfo=UTC)


@pytest.fixture
def clock():
    with time_machine.travel(BEGAN, tick=True) as traveller:
        yield traveller


@asynccontextmanager
async def serving(tmp_path, monkeypatch, schedule):
    """Run a controller with one workflow that has this schedule."""
    monkeypatch.setattr(daemon, "JUMP", timedelta(seconds=0.1))
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "tick.yaml").write_text(manifest("tick", "true", schedule))
    source = DirectorySource(name="w", path=str(folder))
    settings = Settings(state_dir=tmp_path / "state", executor="local", sources=(source,))
    async with running(settings) as made:
        yield made


async def slots(made):
    runs = await made.store.read(lambda reader: reader.runs(phases={Phase.SUCCEEDED}))
    return sorted(run.scheduled_time for run in runs)


async def until(holds):
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.02)


async def test_a_jump_ahead_starts_what_is_due_by_then(tmp_path, monkeypatch, clock):
    async with serving(tmp_path, monkeypatch, HOURLY) as made:
        clock.shift(timedelta(hours=3))

        async def has_run():
            return await slots(made)

        await until(has_run)
        assert await slots(made) == [BEGAN.replace(hour=15, minute=0)], "the newest, once"


async def test_a_jump_back_repeats_no_slot(tmp_path, monkeypatch, clock):
    async with serving(tmp_path, monkeypatch, EACH_SECOND) as made:

        async def three():
            return len(await slots(made)) >= 3

        await until(three)
        clock.shift(timedelta(seconds=-4))
        before = await slots(made)

        async def more():
            return len(await slots(made)) >= len(before) + 2

        await until(more)
        found = await slots(made)
        assert len(found) == len(set(found))
        first = found[0]
        assert found == [first + timedelta(seconds=n) for n in range(len(found))], "and skips none"


@pytest.mark.parametrize("back", [timedelta(days=400), timedelta(days=2)])
async def test_a_clock_that_was_far_ahead_stops_no_schedule(tmp_path, monkeypatch, clock, back):
    """Set right again, it doesn't make a schedule wait until the wrong time comes."""
    async with serving(tmp_path, monkeypatch, EACH_SECOND) as made:

        async def some():
            return await slots(made)

        await until(some)
        clock.shift(-back)
        right = BEGAN - back + timedelta(hours=1)

        async def runs_again():
            return [slot for slot in await slots(made) if slot < right]

        await until(runs_again)


async def test_timers_ring_after_a_jump_back_of_an_hour(tmp_path, monkeypatch, clock):
    """What is asked for at once is done at once, whatever the time is called."""
    async with serving(tmp_path, monkeypatch, EACH_SECOND) as made:

        async def some():
            return await slots(made)

        await until(some)
        clock.shift(timedelta(hours=-1))
        rung = asyncio.Event()
        made._alarms.at("soon", made.clock.now() + timedelta(seconds=0.2), rung.set)
        async with asyncio.timeout(10):
            await rung.wait()
