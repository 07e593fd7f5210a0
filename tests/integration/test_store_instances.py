"""Who lives, who is gone, and what they left."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from controller.errors import RefusedError
from controller.model.changes import ClaimRun, CreateRun, StartAttempt, StartRun
from controller.model.run import Phase
from controller.store import ServeLock, Store
from controller.store.instances import is_alive, lock_path
from tests.store_lives import NOON, FixedClock, a_run, an_attempt, begun

LEAVE = """
import asyncio, os, signal, sys
from pathlib import Path
from controller.model.changes import StartAttempt
from controller.store import ServeLock, Store
from tests.store_lives import FixedClock, a_run, an_attempt, begun
from controller.model.changes import ClaimRun, CreateRun
from tests.store_lives import NOON

async def main():
    store = await Store.open(Path(sys.argv[1]), clock=FixedClock())
    with ServeLock(store.state_dir, store.instance):
        me = store.instance
        await store.record(*begun(me, "w-begun"), StartAttempt(attempt=an_attempt("w-begun", "s0")))
        await store.record(*begun(me, "w-started"))
        await store.record(CreateRun(run=a_run("w-claimed")), ClaimRun(run="w-claimed", instance=me, at=NOON))
        await store.record(CreateRun(run=a_run("w-waiting")))
        await store.record(*begun(me, "x-begun", source="exec"))
        print(me, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""

HOLD = """
import sys
from pathlib import Path
from controller.store import ServeLock
with ServeLock(Path(sys.argv[1]), "serve-held"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
async def store(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock())
    yield store
    await store.close()


async def the_run(store, name):
    return await store.read(lambda reader: reader.run(name))


async def last_event(store, run):
    return (await store.read(lambda reader: reader.events(run=run)))[-1]


def started(program, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def leave_work_behind(state_dir):
    done = subprocess.run(
        [sys.executable, "-c", LEAVE, state_dir], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    return done.stdout.strip()


async def test_a_living_process_is_alive_and_one_that_closed_is_not(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock())
    assert is_alive(tmp_path, store.instance)
    await store.close()
    assert not is_alive(tmp_path, store.instance)
    assert not lock_path(tmp_path, store.instance).exists()


async def test_what_a_killed_process_left_is_taken_over_once(tmp_path):
    lost = leave_work_behind(tmp_path)
    assert not is_alive(tmp_path, lost)
    store = await Store.open(tmp_path, clock=FixedClock())
    found = await store.recover_candidates()
    assert [run.id for run, _, _ in found] == ["w-begun", "x-begun"]
    run, steps, attempts = found[0]
    assert (run.phase, run.instance, run.spec) == (Phase.RUNNING, lost, a_run().spec)
    assert [step.name for step in steps] == ["s0"]
    assert attempts == [an_attempt("w-begun", "s0")]
    assert await store.recover_candidates() == []
    assert [i.id for i in await store.read(lambda reader: reader.instances())] == [store.instance]
    assert not lock_path(tmp_path, lost).exists()
    await store.close()


async def test_a_run_that_was_not_begun_is_pending_again_under_its_id(tmp_path):
    leave_work_behind(tmp_path)
    store = await Store.open(tmp_path, clock=FixedClock())
    await store.recover_candidates()
    for name in ("w-claimed", "w-started"):
        run = await the_run(store, name)
        assert (run.phase, run.instance, run.reason) == (Phase.PENDING, None, "ControllerLost")
        assert (await last_event(store, name)).reason == "RunRequeued"
        claim = ClaimRun(run=name, instance=store.instance, at=NOON)
        start = StartRun(run=name, at=NOON, executor="local")
        assert await store.record(claim, start) == (True, True)
    waiting = await the_run(store, "w-waiting")
    assert (waiting.phase, waiting.reason) == (Phase.PENDING, "")
    await store.close()


async def test_an_adopted_run_is_taken_over_again_when_its_new_owner_is_lost(tmp_path):
    leave_work_behind(tmp_path)
    first = await Store.open(tmp_path, clock=FixedClock())
    await first.recover_candidates()
    owner = (await the_run(first, "w-begun")).instance
    assert owner == first.instance
    first._lock.release()  # as the kernel does when its process dies
    second = await Store.open(tmp_path, clock=FixedClock())
    assert [run.id for run, _, _ in await second.recover_candidates()] == ["w-begun", "x-begun"]
    await second.close()
    await first.close()


async def test_the_work_of_a_living_process_is_left_alone(store, tmp_path):
    await store.record(*begun(store.instance), StartAttempt(attempt=an_attempt(step="s0")))
    other = await Store.open(tmp_path, clock=FixedClock(), kind="exec")
    assert other.instance.startswith("exec-")
    assert await other.recover_candidates() == []
    assert await store.recover_candidates() == []
    await other.close()


async def test_a_run_of_an_instance_nobody_knows_is_taken_over(store):
    await store.record(CreateRun(run=a_run()), ClaimRun(run="w-1", instance="serve-lost", at=NOON))
    assert await store.recover_candidates() == []
    run = await store.read(lambda reader: reader.run("w-1"))
    assert run == replace(
        a_run(), reason="ControllerLost", message="serve-lost was lost before a step was started"
    )


def test_a_second_controller_is_refused_and_told_who_serves(tmp_path):
    holder = started(HOLD, tmp_path)
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(RefusedError, match=rf"process {holder.pid} \(serve-held\)"),
            ServeLock(tmp_path),
        ):
            pass
        holder.kill()
    with ServeLock(tmp_path, "me") as lock:
        lock.name("serve-1")
        assert str(os.getpid()) in (tmp_path / "controller.lock").read_text()


def test_the_controllers_lock_is_not_inherited_by_programs_it_starts(tmp_path):
    with ServeLock(tmp_path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    with child, ServeLock(tmp_path):
        child.kill()


OPEN = """
import asyncio, sys
from pathlib import Path
from controller.clock import SystemClock
from controller.store import Store
from controller.model.changes import CreateRun
from tests.store_lives import a_run

async def main():
    sys.stdin.readline()
    store = await Store.open(Path(sys.argv[1]), clock=SystemClock(), kind="exec")
    results = await asyncio.gather(
        *(store.record(CreateRun(run=a_run(f"{sys.argv[2]}-{i}"))) for i in range(200))
    )
    for i in range(100):
        results.append(await store.record(CreateRun(run=a_run(f"{sys.argv[2]}-{200 + i}"))))
    assert set(results) == {(True,)}
    await store.close()

asyncio.run(main())
"""


async def test_processes_that_start_at_once_share_a_new_directory_without_loss(tmp_path):
    state = tmp_path / "new" / "state"
    crowd = [started(OPEN, state, f"p{i}") for i in range(3)]
    for process in crowd:
        process.stdin.write(b"go\n")
        process.stdin.close()
    assert [process.stdout.read() for process in crowd] == [b"", b"", b""]
    assert [process.wait() for process in crowd] == [0, 0, 0]
    for process in crowd:
        process.stdout.close()
    store = await Store.open(state, clock=FixedClock())
    assert len(await store.read(lambda reader: reader.runs())) == 900
    assert len(await store.read(lambda reader: reader.events())) == 900
    assert len(await store.read(lambda reader: reader.instances())) == 1
    await store.close()
