"""A Dagger engine that is killed in the middle of a run, and another one in its place."""

import asyncio
import os
import signal
from contextlib import suppress

import pytest

from controller.model.run import Phase
from tests.dagger_double.engine import Engine
from tests.dagger_double.house import House, until
from tests.engine_lab import lab, step, workflow


@pytest.fixture
async def house(tmp_path, monkeypatch):
    engine = Engine()
    made = House(tmp_path, engine, await engine.start())
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(made.memory))
    yield made
    await made.engine.stop()


async def replace_engine(house):
    """Kill the engine with all that it runs; one with nothing in its cache takes its place."""
    killed, house.engine = house.engine, Engine()
    house.cli._port = await house.engine.start()
    house.cli.behave()
    for pid in house.cli.pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await killed.stop()


async def test_a_run_outlives_the_engine_it_began_on(house, tmp_path):
    first = step("first", "echo one > n", image="tool:1")
    script = f"echo up; test -e {tmp_path}/again || {{ touch {tmp_path}/again; sleep 60; }}"
    second = step("second", script, image="tool:1", needs=("first",))
    async with lab(tmp_path, executor=house.executor()) as rig:
        run = await rig.claimed()
        task = asyncio.create_task(rig.engine.execute(run, workflow(first, second)))
        await until((tmp_path / "again").exists)
        await replace_engine(house)
        assert await task is Phase.SUCCEEDED
        story = await rig.story(run.id)
    assert [(one.step, one.reason) for one in story.attempts] == [
        ("first", ""),
        ("second", "SessionLost"),
        ("second", ""),
    ], "what had ended is not run again"
