"""A store copied whole while it is in use, put back, and looked through for damage."""

import hashlib
import json
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from controller import layout
from controller.disk import explain_os
from controller.errors import RefusedError, StalledError
from controller.store.blobs import BlobStore
from controller.store.connection import DATABASE, explain, open_for_reading
from controller.store.files import sync_folder
from controller.store.reader import Reader
from controller.store.retention import references
from controller.store.schema import HEAD, check_not_newer, version

STORE = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", "blobs")
"""All that makes up a store. A log without its database counts: SQLite would replay it into
whatever database is put beside it.
"""

NOTE = "backup.json"
"""The last file of a backup: the blobs that it is without. One cut short has no note."""

ORPHANS = (
    (
        "steps of runs that aren't there",
        "SELECT count(*) FROM step_run WHERE run NOT IN (SELECT id FROM run)",
    ),
    (
        "attempts of runs that aren't there",
        "SELECT count(*) FROM attempt WHERE run NOT IN (SELECT id FROM run)",
    ),
    (
        "events of runs that aren't there",
        "SELECT count(*) FROM event WHERE run <> '' AND run NOT IN (SELECT id FROM run)",
    ),
    (
        "runs whose spec isn't there",
        "SELECT count(*) FROM run WHERE spec != '' AND spec NOT IN (SELECT digest FROM spec)",
    ),
)


class Backup(NamedTuple):
    """What a backup holds; `missing` are blobs that rows name and that were gone or damaged."""

    runs: int
    blobs: int
    missing: tuple[str, ...]


def backup(state_dir: Path, target: Path) -> Backup:
    """Write the database and every blob that it names to a tar file, whole or not at all.

    The database is copied at one moment; a controller goes on beside it.

    Raises:
        RefusedError: the target exists.
        TransientError: the store can't be read, or the target not be written.
    """
    if target.exists():
        raise RefusedError("is there already", where=str(target), remedy="name another file")
    blobs = BlobStore(layout.blobs(state_dir))
    try:
        with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".rondel-") as folder:
            copied = copy(state_dir / DATABASE, Path(folder) / DATABASE)
            draft = Path(folder) / "backup.tar"
            draft.touch(mode=0o600)  # for its owner only, as the store is
            with draft.open("wb") as file:
                with tarfile.open(fileobj=file, mode="w") as archive:
                    made = pack(archive, copied, blobs)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(target)
        sync_folder(target.absolute().parent)
    except OSError as error:
        raise explain_os(error, target) from error
    return made


def copy(database: Path, target: Path) -> Path:
    try:
        with (
            closing(open_for_reading(database)) as source,
            closing(sqlite3.connect(target)) as copied,
        ):
            source.backup(copied)
            copied.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
    except sqlite3.Error as error:
        raise explain(error, str(database)) from error
    return target


def pack(archive: tarfile.TarFile, database: Path, blobs: BlobStore) -> Backup:
    with Reader.open(database.parent) as reader:
        named, runs = sorted(references(reader, blobs)), count_runs(reader)
    archive.add(database, DATABASE)
    missing = [digest for digest in named if not added(archive, blobs, digest)]
    note = database.with_name(NOTE)
    note.write_text(json.dumps({"missing": missing}), encoding="utf-8")
    archive.add(note, NOTE)
    return Backup(runs, len(named) - len(missing), tuple(missing))


def added(archive: tarfile.TarFile, blobs: BlobStore, digest: str) -> bool:
    """Add a blob; return False for one that is damaged, or gone: its run may just be dropped."""
    if any(blob_faults(blobs, digest)):
        return False
    path = blobs.path(digest)
    try:
        archive.add(path, f"blobs/{path.parent.name}/{path.name}")
    except FileNotFoundError:
        return False
    return True


def count_runs(reader: Reader) -> int:
    return sum(1 for _ in reader.run_ids())


def restore(archive: Path, state_dir: Path, *, aside: Path | None) -> Backup:
    """Put a backup in the place of a state directory's store; call it `alone` there.

    Args:
        archive: what `backup` wrote; it is unpacked and looked through before anything is moved.
        state_dir: where it goes.
        aside: a folder that isn't there, into which a store that is there is moved; None: refuse.

    Raises:
        RefusedError: a store is there.
        StalledError: BackupDamaged; a newer Rondel's.
    """
    there = [name for name in STORE if (state_dir / name).exists()]
    if aside is None and there:
        raise RefusedError(
            f"a store is there already: {', '.join(there)}",
            where=str(state_dir),
            remedy="--force moves it aside",
        )
    try:
        with tempfile.TemporaryDirectory(dir=state_dir, prefix=".restore-") as folder:
            fresh = unpacked(archive, Path(folder))
            missing = told_missing(archive, fresh)
            if found := list(damage(fresh, missing)):
                raise damaged(archive, "; ".join(found[:3]))
            os.sync()  # what was unpacked is on disk before anything gives way to it
            for name in STORE:
                move(state_dir / name, aside)
            (fresh / "blobs").mkdir(exist_ok=True)
            (fresh / "blobs").rename(layout.blobs(state_dir))
            (fresh / DATABASE).rename(state_dir / DATABASE)
        sync_folder(state_dir)
    except OSError as error:
        raise explain_os(error, state_dir) from error
    with Reader.open(state_dir) as reader:
        named = references(reader, BlobStore(layout.blobs(state_dir)))
        return Backup(count_runs(reader), len(named.difference(missing)), missing)


def unpacked(archive: Path, folder: Path) -> Path:
    try:
        with tarfile.open(archive, "r") as packed_:
            packed_.extractall(folder, filter="data")  # no links, no way out of the folder
    except (tarfile.TarError, EOFError) as error:
        raise damaged(archive, str(error)) from error
    if not (folder / DATABASE).is_file():
        raise damaged(archive, f"it holds no {DATABASE}")
    return folder


def told_missing(archive: Path, folder: Path) -> tuple[str, ...]:
    """Return the blobs that the backup says it is without."""
    try:
        told = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        return tuple(map(str, told["missing"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(archive, f"it is cut short: its {NOTE} can't be read") from error


def move(path: Path, aside: Path | None) -> None:
    if aside is not None and path.exists():
        aside.mkdir(exist_ok=True)
        path.rename(aside / path.name)


def damaged(archive: Path, problem: str) -> StalledError:
    return StalledError(
        problem, where=str(archive), reason="BackupDamaged", remedy="use another backup"
    )


def faults(state_dir: Path) -> Iterator[str]:
    """Yield what is wrong with a store: its damage, and rows that belong to nothing.

    Raises:
        StalledError: it was written by a newer Rondel.
        UnreachableError: it can't be read at all, or is older.
    """
    found = (*damage(state_dir), *orphans(state_dir / DATABASE))
    yield from dict.fromkeys(found)  # both may say that the file can't be read


def damage(state_dir: Path, missing: Collection[str] = ()) -> Iterator[str]:
    """Yield what is wrong with a store's file and blobs, but for the `missing` ones.

    Raises: as `faults` does.
    """
    database = state_dir / DATABASE
    try:
        with closing(open_for_reading(database)) as connection:
            check_not_newer(version(connection) or HEAD, database)
            told = [text for (text,) in connection.execute("PRAGMA integrity_check")]
            yield from (text for text in told if text != "ok")
    except sqlite3.DatabaseError as error:
        yield f"{database}: {error}"
        return
    blobs = BlobStore(layout.blobs(state_dir))
    with Reader.open(state_dir) as reader:
        named = references(reader, blobs)
    for digest in sorted(named.difference(missing)):
        yield from blob_faults(blobs, digest)


def orphans(database: Path) -> Iterator[str]:
    try:
        with closing(open_for_reading(database)) as connection:
            for what, query in ORPHANS:
                if count := connection.execute(query).fetchone()[0]:
                    yield f"{count} {what}"
    except sqlite3.DatabaseError as error:
        yield f"{database}: {error}"


def blob_faults(blobs: BlobStore, digest: str) -> Iterator[str]:
    try:
        with blobs.path(digest).open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
    except StalledError as error:
        yield f"blob {digest}: {error.problem}"
        return
    except OSError as error:
        yield f"blob {digest}: {error.strerror}"
        return
    if found != digest.removeprefix("sha256:"):
        yield f"blob {digest}: its content is another (sha256:{found})"


def schema_of(state_dir: Path) -> str | None:
    """Return the version of the store's schema. Raises StalledError for a newer one."""
    database = state_dir / DATABASE
    try:
        with closing(open_for_reading(database)) as connection:
            found = version(connection)
    except sqlite3.Error as error:
        raise explain(error, str(database)) from error
    check_not_newer(found or HEAD, database)
    return found


__all__ = ["Backup", "backup", "faults", "restore", "schema_of"]
