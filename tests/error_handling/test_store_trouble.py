"""A locked, full, read-only or damaged store: the caller is told, the writer lives on."""

import os
import shutil
import sqlite3
import subprocess

import pytest

from controller.errors import RondelError, StalledError, TransientError, UnreachableError
from controller.model.changes import CreateRun
from controller.store import Reader, Store
from tests.store_lives import FixedClock, a_run

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")


def create(name="w-1", **given):
    return CreateRun(run=a_run(name, **given))


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


async def test_a_locked_database_is_told_and_works_again_afterwards(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock(), busy_seconds=0.05)
    other = sqlite3.connect(tmp_path / "rondel.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TransientError, match="locked") as caught:
        await store.record(create())
    assert caught.value.reason == "StoreUnavailable"
    assert await store.read(lambda reader: reader.runs()) == []
    other.execute("COMMIT")
    other.close()
    assert await store.record(create()) == (True,)
    await store.close()


async def test_a_database_locked_for_a_moment_only_delays(tmp_path):
    import asyncio

    store = await Store.open(tmp_path, clock=FixedClock())
    other = sqlite3.connect(tmp_path / "rondel.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(store.record(create()))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    other.execute("COMMIT")
    other.close()
    assert await waiting == (True,)
    await store.close()


@AS_ROOT
async def test_a_full_disk_is_told_and_nothing_is_half_written(small_disk):
    store = await Store.open(small_disk, clock=FixedClock())
    ballast = small_disk / "ballast"
    await store.record(create("w-0"))
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"\0" * 4096)
    with pytest.raises(TransientError) as caught:
        for number in range(1, 1000):
            await store.record(create(f"w-{number}", spec=f"{number}" * 9000))
    assert caught.value.reason == "StoreFull"
    assert "free disk space" in str(caught.value)
    with pytest.raises(TransientError) as blob:
        await store.blobs.put(b"x" * 100_000)
    assert blob.value.reason == "StoreFull"
    runs = await store.read(lambda reader: reader.runs())
    events = await store.read(lambda reader: reader.events())
    assert {run.id for run in runs} == {event.run for event in events}
    ballast.unlink()
    assert await store.record(create("after")) == (True,)
    await store.blobs.put(b"x" * 100_000)
    await store.close()


@AS_ROOT
async def test_a_disk_that_turns_read_only_is_told(small_disk):
    store = await Store.open(small_disk, clock=FixedClock())
    await store.record(create("w-0"))
    await store.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(TransientError) as caught:
        await Store.open(small_disk, clock=FixedClock())
    assert caught.value.reason == "StoreReadOnly"
    with Reader.open(small_disk) as reader:
        assert [run.id for run in reader.runs()] == ["w-0"]
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)


async def test_a_read_only_database_is_told_and_the_writer_lives_on(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock())
    await store.write(lambda tx: tx._connection.execute("SELECT 1"))
    with pytest.raises(TransientError) as caught:
        await store.write(_write_what_is_read_only)
    assert caught.value.reason == "StoreReadOnly"
    assert await store.record(create()) == (True,)
    await store.close()


def _write_what_is_read_only(tx):
    (_, _, path) = tx._connection.execute("PRAGMA database_list").fetchone()
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as other:
        other.execute("DELETE FROM run")


async def test_a_damaged_database_is_told_and_left_as_it_is(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock())
    await store.close()
    damaged = b"this is not a database, " * 400
    (tmp_path / "rondel.db").write_bytes(damaged)
    with pytest.raises(StalledError, match="not a database") as caught:
        await Store.open(tmp_path, clock=FixedClock())
    assert caught.value.reason == "StoreDamaged"
    assert (tmp_path / "rondel.db").read_bytes() == damaged


async def test_a_state_directory_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RondelError) as caught:
        await Store.open(tmp_path / "file" / "state", clock=FixedClock())
    assert str(tmp_path / "file") in str(caught.value)


async def test_a_store_that_was_closed_says_so(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock())
    await store.close()
    with pytest.raises(TransientError, match="closed"):
        await store.record(create())
    with pytest.raises(TransientError, match="closed"):
        await store.read(lambda reader: reader.runs())


async def test_closing_twice_is_closing_once(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock())
    await store.close()
    await store.close()


async def test_a_closed_store_has_no_log_beside_its_database(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock())
    await store.record(create())
    await store.close()
    names = {path.name for path in tmp_path.iterdir() if path.name.startswith("rondel.db")}
    assert names == {"rondel.db"}


async def test_a_database_removed_under_a_reader_is_said_to_be_gone(tmp_path):
    store = await Store.open(tmp_path / "state", clock=FixedClock())
    await store.close()
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(UnreachableError, match="no store"):
        Reader.open(tmp_path / "state")
