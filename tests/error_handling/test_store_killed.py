"""A process that writes is killed: what it was told is kept, and nothing is half there."""

import signal
import subprocess
import sys

import pytest

from controller.model.run import Phase
from controller.store import Store
from tests.store_lives import FixedClock

WRITE = """
import asyncio, sys
from pathlib import Path
from controller.store import Store
from tests.store_lives import FixedClock, life

async def live(store, worker):
    for number in range(1_000_000):
        name = f"w-{worker}-{number}"
        for step, calls in enumerate(life(store.instance, name)):
            assert all(await store.record(*calls))
            sys.stdout.write(f"{name} {step}\\n")
            sys.stdout.flush()

async def main():
    store = await Store.open(Path(sys.argv[1]), clock=FixedClock())
    await asyncio.gather(*(live(store, worker) for worker in range(8)))

asyncio.run(main())
"""

EVENTS = [
    "RunCreated",
    "RunClaimed",
    "RunStarted",
    "StepStarted",
    "StepFinished",
    "StepStarted",
    "StepFinished",
    "StepStarted",
    "StepFinished",
    "RunSucceeded",
]
AFTER_CALL = [1, 2, 3, 4, 6, 8, 9, 10]
"""How many events a life has told after each of its calls."""


def kill_in_mid_stream(state_dir, lines):
    """Return run -> its last acknowledged call."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE, state_dir], stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        told += [line for line in writer.stdout if line.endswith("\n")]
    assert writer.returncode == -signal.SIGKILL
    return {name: int(step) for name, step in (line.split() for line in told)}


@pytest.mark.parametrize("lines", [1, 100, 700])
async def test_every_acknowledged_change_is_there_with_its_event(tmp_path, lines):
    acknowledged = kill_in_mid_stream(tmp_path, lines)
    store = await Store.open(tmp_path, clock=FixedClock())
    for run, call in acknowledged.items():
        events = await store.read(lambda reader, run=run: reader.events(run=run))  # type: ignore[misc]
        told = [event.reason for event in events]
        assert told == EVENTS[: len(told)]
        assert len(told) >= AFTER_CALL[call]
        assert len(told) in AFTER_CALL
    await store.close()


async def test_after_the_kill_nothing_runs_by_mistake(tmp_path):
    kill_in_mid_stream(tmp_path, 300)
    store = await Store.open(tmp_path, clock=FixedClock())
    left = await store.recover_candidates()
    assert all(attempts for _, _, attempts in left)
    active = await store.read(lambda reader: reader.active())
    running = {run.id: run.instance for run in active if run.phase is Phase.RUNNING}
    assert running == {run.id: store.instance for run, _, _ in left}
    await store.close()
