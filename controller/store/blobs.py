"""Content named by its sha256: whole or absent, verified on read.

A file's name is `sha256:<64 hex>`. A folder's, or an executable file's, is `tree:sha256:<64 hex>`:
that of the list of what is in it. A blob is on disk for good before `put` returns, so a row that
names it may be committed at once; one fsync for the bytes and one for the folder, in a thread of
its own, beside the steps that go on running.
"""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from controller import layout
from controller.disk import explain_os
from controller.errors import StalledError
from controller.store import trees
from controller.store.files import (
    chunks,
    draft,
    open_regular,
    sync_folder,
    unsupported,
    write_new,
)
from controller.store.trees import Node

_FILE, _TREE = "sha256:", "tree:sha256:"
_NOTES = 4096
_HEX = 64


class Note(NamedTuple):
    """What is known of a blob when it was put: `log`, `file` or `folder`, and bytes in all."""

    kind: str
    size: int


class BlobStore:
    """The blobs of a state directory. Its methods without `async` are for threads and commands."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._drafts = root / "tmp"
        self._notes: dict[str, Note] = {}

    async def put(self, data: bytes) -> str:
        """Keep `data`; return its digest. Keeping the same bytes twice is free.

        Raises:
            TransientError: StoreFull, StoreReadOnly, StoreUnavailable.
        """
        return await asyncio.to_thread(self.keep, data)

    async def put_path(self, path: Path) -> str:
        """Keep a file or a folder; return its digest. Contents are streamed, never held whole.

        Raises:
            StalledError: ArtifactUnsupported (a link, a special file), ArtifactUnreadable.
            TransientError: StoreFull, StoreReadOnly, StoreUnavailable.
        """
        return await asyncio.to_thread(self.keep_path, path)

    async def get(self, digest: str) -> bytes:
        """Return the bytes; of a folder, those of its list.

        Raises:
            StalledError: BlobMissing; BlobDamaged, and the file is set aside.
        """
        return await asyncio.to_thread(self.read, digest)

    async def restore(self, digest: str, target: Path) -> None:
        """Write the file or folder to `target`, which must not exist; its folder must.

        Raises:
            StalledError: BlobMissing; BlobDamaged, and nothing is left at `target`.
            TransientError: StoreFull and its like, of the disk that `target` is on.
            FileExistsError: `target` exists.
        """
        await asyncio.to_thread(self.write_to, digest, target)

    async def verify(self, digests: Collection[str]) -> None:
        """Read each blob through, files inside folders too, and compare it with its name.

        Their times are renewed: who asks is about to name them.

        Raises:
            StalledError: BlobMissing; BlobDamaged, and the file is set aside.
        """
        await asyncio.to_thread(self._verify, digests)

    def noted(self, digest: str) -> Note | None:
        """Return kind and size of a blob that was put of late by this process."""
        return self._notes.get(digest)

    def path(self, digest: str) -> Path:
        """Return where the blob lies, whether or not it is there."""
        name = digest.removeprefix("tree:").removeprefix(_FILE)
        if len(name) != _HEX or not set(name) <= set("0123456789abcdef"):
            raise StalledError("it is no digest", reason="BlobMissing", where=digest)
        return layout.blob(self.root, name)

    def keep(self, data: bytes) -> str:
        digest = self._keep(data)
        self._note(digest, Note("file", len(data)))
        return digest

    def keep_path(self, path: Path) -> str:
        if path.is_symlink():
            raise unsupported(path)
        if path.is_dir():
            return self._keep_folder(path)
        node, size = self._keep_file(path, "", sync_folder)
        digest = node.digest
        if node.mode == trees.EXECUTABLE:
            digest = "tree:" + self._keep(trees.encode([node]))
        self._note(digest, Note("file", size))
        return digest

    def read(self, digest: str) -> bytes:
        data = self._bytes(digest)
        if not self._fits(digest, data):
            raise self._damaged(digest)
        return data

    def _bytes(self, digest: str) -> bytes:
        path = self.path(digest)
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise _missing(digest) from error
        except OSError as error:
            raise explain_os(error, path) from error

    def _fits(self, digest: str, data: bytes) -> bool:
        return self.path(digest) == layout.blob(self.root, hashlib.sha256(data).hexdigest())

    def write_to(self, digest: str, target: Path) -> None:
        try:
            self._write(digest, target)
        except FileExistsError:
            raise
        except OSError as error:
            raise explain_os(error, target) from error

    def _write(self, digest: str, target: Path) -> None:
        if not digest.startswith(_TREE):
            return self._write_file(Node(trees.FILE, "", digest), target)
        nodes = self._tree(digest)
        if [node.path for node in nodes] == [""] and nodes[0].mode != trees.FOLDER:
            return self._write_file(nodes[0], target)
        target.mkdir()
        with _or_nothing(target):
            for node in nodes:
                self._write_node(node, target)
        return None

    def parts(self, digest: str) -> Iterator[str]:
        """Yield the digests of the files that make up a folder; nothing for a file."""
        if digest.startswith(_TREE):
            yield from (node.digest for node in self._tree(digest) if node.digest)

    def parts_if_kept(self, digest: str) -> list[str]:
        """Return what `parts` yields; nothing for a folder that is missing or damaged: it stays."""
        try:
            data = self._bytes(digest) if digest.startswith(_TREE) else b""
            nodes = trees.decode(data) if self._fits(digest, data) else []
        except (StalledError, ValueError, TypeError):
            return []
        return [node.digest for node in nodes if node.digest]

    def old(self, before: datetime) -> Iterator[str]:
        """Yield the digests of files not put since `before`; drafts as old are removed.

        A folder's list is a file like others here, so its digest comes without `tree:`.
        """
        limit = before.timestamp()
        for path in self.root.glob("*/*"):
            if path.stat().st_mtime >= limit:
                continue
            if path.parent == self._drafts:
                path.unlink(missing_ok=True)
            elif len(path.parent.name) == layout.SHARD:
                yield _FILE + path.parent.name + path.name

    def drop(self, digest: str, before: datetime) -> bool:
        """Remove a file unless it was put again since `before`; return whether it went.

        It is moved away first: from then on `put` writes it anew, so none is lost in between.
        """
        path = self.path(digest)
        aside = self._folder(self._drafts) / (path.parent.name + path.name)
        try:
            path.rename(aside)
        except FileNotFoundError:
            return False
        if aside.stat().st_mtime >= before.timestamp():
            aside.rename(path)
            return False
        aside.unlink()
        return True

    def _verify(self, digests: Collection[str]) -> None:
        for digest in digests:
            for name in (digest, *self.parts(digest)):
                path = self.path(name)
                try:
                    with path.open("rb") as handle:
                        found = hashlib.file_digest(handle, "sha256").hexdigest()
                    _refresh(path)
                except FileNotFoundError as error:
                    raise _missing(name) from error
                except OSError as error:
                    raise explain_os(error, path) from error
                if found != path.parent.name + path.name:
                    raise self._damaged(name)

    def _keep(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        path = self.path(_FILE + name)
        with self._writing():
            if not _refresh(path):
                with draft(self._folder(self._drafts)) as new:
                    new.write(data)
                    new.place(self._folder(path.parent) / path.name)
                sync_folder(path.parent)
        return _FILE + name

    def _keep_file(self, path: Path, name: str, settle: Callable[[Path], None]) -> tuple[Node, int]:
        """Keep a file's bytes; `settle` is given the folder whose names are to be synced."""
        with self._writing(), open_regular(path) as (handle, status):
            with draft(self._folder(self._drafts)) as new:
                for chunk in chunks(handle):
                    new.write(chunk)
                digest, place = _FILE + new.name(), self.path(_FILE + new.name())
                if not _refresh(place):
                    new.place(self._folder(place.parent) / place.name)
                    settle(place.parent)
            return Node(trees.mode_of(status), name, digest), new.size

    def _keep_folder(self, root: Path) -> str:
        nodes: list[Node] = []
        touched: set[Path] = set()
        total = 0
        for name, here, is_folder in trees.walk(root):
            if is_folder:
                nodes.append(Node(trees.FOLDER, name, ""))
            else:
                node, size = self._keep_file(here, name, touched.add)
                nodes.append(node)
                total += size
        with self._writing():
            for folder in touched:
                sync_folder(folder)
        digest = "tree:" + self._keep(trees.encode(nodes))
        self._note(digest, Note("folder", total))
        return digest

    def _note(self, digest: str, note: Note) -> None:
        self._notes[digest] = note
        if len(self._notes) > _NOTES:
            self._notes.pop(next(iter(self._notes)), None)

    def _folder(self, folder: Path) -> Path:
        """Return the folder, made and its name made durable when it is new."""
        if not folder.exists():
            self._folder(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder.parent)
        return folder

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise explain_os(error, self.root) from error

    def _tree(self, digest: str) -> list[Node]:
        try:
            return trees.decode(self.read(digest))
        except (ValueError, TypeError) as error:
            raise self._damaged(digest) from error

    def _write_node(self, node: Node, root: Path) -> None:
        target = root / node.path
        if node.mode == trees.FOLDER:
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        self._write_file(node, target)

    def _write_file(self, node: Node, target: Path) -> None:
        path = self.path(node.digest)
        mode = 0o755 if node.mode == trees.EXECUTABLE else 0o644
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise _missing(node.digest) from error
        try:
            found = write_new(target, chunks(handle), mode)
        finally:
            os.close(handle)
        if found != path.parent.name + path.name:
            target.unlink()
            raise self._damaged(node.digest)

    def _damaged(self, digest: str) -> StalledError:
        """Set the file aside, so that the same content can be kept anew; return the error."""
        path = self.path(digest)
        aside = self._folder(self.root / "damaged") / (path.parent.name + path.name)
        path.replace(aside)
        return StalledError(
            f"the content of {digest} is not what was kept; it was set aside as {aside}",
            reason="BlobDamaged",
            where=str(path),
            remedy="restore it from a backup, or run again what made it",
        )


def _refresh(path: Path) -> bool:
    """Return whether the blob is there; its time is renewed, so that no sweep takes it."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _or_nothing(target: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(target)
        raise


def _missing(digest: str) -> StalledError:
    return StalledError(
        f"there is no blob {digest}",
        reason="BlobMissing",
        remedy="it was removed or never kept; run again what made it",
    )
