"""A store copied, put back and looked through: what is damaged, missing, left over or in use."""

import sqlite3
import stat
import subprocess
import sys
import tarfile
from contextlib import closing

import pytest

from controller import layout
from controller.errors import RefusedError, StalledError
from controller.model.changes import CreateRun, FinishAttempt, StartAttempt
from controller.model.run import Phase
from controller.store import Reader, ServeLock, Store
from controller.store.backup import NOTE, backup, faults, restore
from controller.store.blobs import BlobStore
from controller.store.instances import alone
from tests.store_lives import NOON, FixedClock, a_run, an_attempt, begun


@pytest.fixture
async def place(tmp_path):
    """A store with one run, whose one step has a log."""
    place = tmp_path / "state"
    store = await Store.open(place, clock=FixedClock())
    log = await store.blobs.put(b"what it said")
    attempt = an_attempt(step="s0")
    await store.record(*begun(store.instance), StartAttempt(attempt=attempt))
    ended = an_attempt(step="s0", phase=Phase.SUCCEEDED, log=log, finished_at=NOON)
    assert await store.record(FinishAttempt(attempt=ended)) == (True,)
    await store.close()
    return place


def only_blob(place):
    [blob] = layout.blobs(place).glob("??/*")
    return blob


def workflows(place):
    with Reader.open(place) as reader:
        return [run.workflow for run in reader.runs()]


def test_a_backup_is_for_its_owner_only(place, tmp_path):
    file = tmp_path / "store.tar"
    backup(place, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


LEAVE_A_LOG = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("PRAGMA wal_autocheckpoint = 0")
connection.execute("UPDATE run SET workflow = 'stale'")
os._exit(0)
"""


def test_a_log_that_lost_its_database_is_not_replayed_into_what_is_put_back(place, tmp_path):
    file = tmp_path / "store.tar"
    backup(place, file)
    subprocess.run([sys.executable, "-c", LEAVE_A_LOG, place / "rondel.db"], check=True)
    (place / "rondel.db").unlink()
    assert (place / "rondel.db-wal").stat().st_size > 0
    with pytest.raises(RefusedError, match=r"rondel\.db-wal.*--force"):
        restore(file, place, aside=None)
    restore(file, place, aside=tmp_path / "aside")
    assert workflows(place) == ["w"]
    assert (tmp_path / "aside" / "rondel.db-wal").exists()


def test_blobs_that_lost_their_database_are_moved_aside_when_that_is_wished(place, tmp_path):
    file = tmp_path / "store.tar"
    backup(place, file)
    (place / "rondel.db").unlink()
    with pytest.raises(RefusedError, match="blobs"):
        restore(file, place, aside=None)
    restore(file, place, aside=tmp_path / "aside")
    assert list(faults(place)) == []


@pytest.mark.parametrize("harm", ["gone", "another"])
def test_a_backup_without_a_blob_says_which_and_can_be_put_back(place, tmp_path, harm):
    blob = only_blob(place)
    digest = f"sha256:{blob.parent.name}{blob.name}"
    if harm == "gone":
        blob.unlink()
    else:
        blob.write_bytes(b"another")
    file, other = tmp_path / "store.tar", tmp_path / "other"
    assert backup(place, file).missing == (digest,)
    other.mkdir()
    made = restore(file, other, aside=None)
    assert (made.runs, made.blobs, made.missing) == (1, 0, (digest,))
    assert list(faults(other)) == [f"blob {digest}: No such file or directory"]


def repacked(file, change):
    """Write the archive anew, each member as `change` gives it back, or left out for None."""
    made = file.with_name("changed.tar")
    with tarfile.open(file) as old, tarfile.open(made, "w") as new:
        for member in old:
            part = old.extractfile(member)
            assert part is not None
            data = part.read()
            if (changed := change(member.name, data)) is not None:
                member.size = len(changed)
                draft = file.with_name("part")
                draft.write_bytes(changed)
                with draft.open("rb") as handle:
                    new.addfile(member, handle)
    return made


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda name, data: b"x" + data[1:] if "blobs/" in name else data, "its content"),
        (lambda name, data: None if "blobs/" in name else data, "No such file"),
        (lambda name, data: None if name == NOTE else data, "cut short"),
        (lambda name, data: None if name == "rondel.db" else data, r"no rondel\.db"),
        (lambda name, data: b"x" * 9000 if name == "rondel.db" else data, "not a database"),
    ],
)
def test_a_backup_that_is_not_what_was_written_changes_nothing(place, tmp_path, change, told):
    file = tmp_path / "store.tar"
    backup(place, file)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(StalledError, match=told) as caught:
        restore(repacked(file, change), other, aside=None)
    assert caught.value.reason == "BackupDamaged"
    assert list(other.iterdir()) == []


def test_looking_through_a_store_moves_nothing(place, tmp_path):
    blobs = BlobStore(layout.blobs(place))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "one").write_text("one")
    tree = blobs.keep_path(folder)
    with closing(sqlite3.connect(place / "rondel.db")) as database, database:
        database.execute("UPDATE attempt SET log = ?", (tree,))
    assert list(faults(place)) == []
    blobs.path(tree).write_bytes(b"no list")
    name = tree.removeprefix("tree:")
    assert [one.partition(" (")[0] for one in faults(place)] == [
        f"blob {name}: its content is another"
    ]
    assert blobs.path(tree).read_bytes() == b"no list"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE step_run SET run = 'x'", "1 steps of runs that aren't there"),
        ("UPDATE attempt SET run = 'x'", "1 attempts of runs that aren't there"),
        ("UPDATE event SET run = 'x' WHERE id = 1", "1 events of runs that aren't there"),
        ("DELETE FROM spec", "1 runs whose spec isn't there"),
        ("UPDATE attempt SET log = 'nonsense'", "blob nonsense: it is no digest"),
    ],
)
def test_a_row_that_names_what_is_not_there_is_found(place, change, told):
    with closing(sqlite3.connect(place / "rondel.db")) as database, database:
        database.execute(change)
    assert list(faults(place)) == [told]


async def test_a_store_is_held_alone_only_when_no_process_lives_in_it(place):
    store = await Store.open(place, clock=FixedClock(), kind="exec")
    with pytest.raises(RefusedError, match=store.instance), alone(place):
        pass
    await store.close()
    with alone(place), pytest.raises(RefusedError, match="already serves"), ServeLock(place):
        pass
    store = await Store.open(place, clock=FixedClock(), kind="exec")
    assert await store.record(CreateRun(run=a_run("w-2"))) == (True,)
    await store.close()
