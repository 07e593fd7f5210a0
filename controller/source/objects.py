"""Git's objects: one pass over a commit's tree, one child for the contents asked for."""

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from controller.model.source import Entry, Fault
from controller.source import ignoring
from controller.source.files import CHUNK, EXECUTABLE, PLAIN, link_target, refused, unspeakable
from controller.source.processes import GitError, git, kill, started

LINK, SUBMODULE = "120000", "160000"
MODULES = ".gitmodules"
SPECIAL = {MODULES, ignoring.FILE}
LONGEST_NAME, LONGEST_PATH = 255, 3000  # bytes
DEEPEST = 250  # folders above a file: each is a call when they are made
LONGEST_LINK = 4095  # bytes: no disk takes a longer one, and whatever is called a link is read
READ_SECONDS = 120.0
Take = Callable[[str, int, BinaryIO], None]
"""Takes a blob's id and size, and reads exactly so many bytes of its content."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of one commit, links resolved; the faults of what can't be read."""

    entries: Mapping[str, Entry]
    faults: tuple[Fault, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)  # submodules: path -> commit
    special: Mapping[str, str] = field(default_factory=dict)  # files of Git's and ours -> blob


class Objects:
    """Reads the objects of a repository; `alternates` are other folders of objects."""

    def __init__(self, folder: Path, *alternates: Path) -> None:
        self.folder = folder
        others = ":".join(map(quoted, alternates))
        self._env = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": others} if others else {}

    async def raw(self, kind: str, identity: str) -> bytes:
        """Return a commit or tag as it is. Raises GitError when there is none."""
        words = ("cat-file", kind, identity)
        return await git(words, folder=self.folder, seconds=READ_SECONDS, env=self._env)

    async def tree(self, commit: str) -> Tree:
        """Return every file of a commit but dot names, whatever is ignored.

        Raises:
            GitError: no such commit.
        """
        listed = await git(
            ["ls-tree", "-r", "-z", "--full-tree", commit],
            folder=self.folder,
            seconds=READ_SECONDS,
            env=self._env,
        )
        tree = Sorted()
        for line in listed.decode("utf-8", "surrogateescape").split("\0"):
            head, _, path = line.partition("\t")
            if is_read(path):
                sort_in(path, head, tree)
            elif path in SPECIAL and head.startswith("100"):
                tree.special[path] = head.rpartition(" ")[2]
        if tree.links:
            await self._follow(tree.entries, tree.links, tree.faults)
        return Tree(tree.entries, tuple(tree.faults), tree.modules, tree.special)

    async def without_ignored(self, tree: Tree, ignore: tuple[str, ...]) -> Tree:
        """Return a tree without what its .rondelignore and `ignore` match; `ignore` overrules."""
        blob = tree.special.get(ignoring.FILE)
        if blob is None and not ignore:
            return tree
        own = None
        if blob is not None:
            own = (await self.contents([blob], limit=ignoring.MOST_BYTES + 1))[blob]
        return await asyncio.to_thread(left, tree, own, ignore)

    async def _follow(
        self, entries: dict[str, Entry], links: dict[str, str], faults: list[Fault]
    ) -> None:
        """A link inside the repository to a regular file is followed, once."""
        targets = await self.contents(links.values(), limit=LONGEST_LINK + 1)
        regular = dict(entries)
        for path, blob in links.items():
            target = None
            if len(targets[blob]) <= LONGEST_LINK:
                target = link_target(path, targets[blob].decode("utf-8", "surrogateescape"))
            if target in regular:
                entries[path] = regular[target]
            else:
                problem = "is a link to something other than a regular file of the repository"
                faults.append(refused(path, problem, "commit the file itself"))

    async def contents(self, blobs: Iterable[str], limit: int | None = None) -> dict[str, bytes]:
        """Return the content of each blob by id; at most its first `limit` bytes.

        Raises:
            GitError: there is no such blob.
        """
        found: dict[str, bytes] = {}

        def take(blob: str, size: int, stream: BinaryIO) -> None:
            wanted = size if limit is None else min(size, limit)
            found[blob] = stream.read(wanted)
            for _ in pieces(stream, size - wanted):
                pass

        await self._batch(list(dict.fromkeys(blobs)), take)
        return found

    async def sized(self, blobs: Iterable[str], least: int, most: int) -> list[str]:
        """Return the blobs of `least` to `most` bytes. Raises GitError: there is no such blob."""
        asked = list(blobs)
        if not asked:
            return []
        told = await git(
            ["cat-file", "--batch-check=%(objectname) %(objectsize)", "--buffer"],
            folder=self.folder,
            seconds=READ_SECONDS,
            env=self._env,
            data="".join(f"{blob}\n" for blob in asked).encode(),
        )
        lines = (line.split() for line in told.decode().splitlines())
        sizes = {blob: size for blob, size in lines if size.isdecimal()}  # else: missing
        return [blob for blob in asked if least <= int(sizes.get(blob, most)) <= most]

    async def write(self, files: Mapping[str, Entry], target: Path) -> None:
        """Write files (by path relative to `target`; "" is `target` itself) with their modes.

        Raises:
            GitError: there is no such blob.
            OSError: a file can't be written.
        """
        places: dict[str, list[tuple[Path, str]]] = {}
        for path, entry in files.items():
            place = target / path if path else target
            places.setdefault(entry.blob, []).append((place, entry.mode))
        await self._batch(list(places), lambda *blob: write_blob(places[blob[0]], *blob[1:]))

    async def _batch(self, blobs: list[str], take: Take) -> None:
        """Hand each blob to `take`, in a thread, in the order asked."""
        if not blobs:
            return
        with tempfile.TemporaryFile() as questions:
            questions.write("".join(f"{blob}\n" for blob in blobs).encode())
            questions.seek(0)
            reading, writing = os.pipe()
            with os.fdopen(reading, "rb") as answers, os.fdopen(writing, "wb") as pipe:
                async with (
                    asyncio.timeout(READ_SECONDS),
                    started(
                        ["cat-file", "--batch"],
                        folder=self.folder,
                        env=self._env,
                        stdin=questions,
                        stdout=pipe,
                    ) as process,
                ):
                    pipe.close()
                    await until_read(process, answers, blobs, take)


async def until_read(
    process: asyncio.subprocess.Process, answers: BinaryIO, blobs: list[str], take: Take
) -> None:
    """Read all answers in a thread; it is over when this returns, also when we are cancelled."""
    reading = asyncio.ensure_future(asyncio.to_thread(read_answers, answers, blobs, take))
    try:
        await asyncio.shield(reading)
    except BaseException:
        kill(process)
        await asyncio.wait([reading])
        raise


def read_answers(answers: BinaryIO, blobs: list[str], take: Take) -> None:
    for blob in blobs:
        header = answers.readline().split()
        if len(header) != 3:  # noqa: PLR2004 - id, type, size
            raise GitError("cat-file", f"{blob} is missing")
        take(blob, int(header[2]), answers)
        answers.read(1)


def pieces(stream: BinaryIO, size: int) -> Iterable[bytes]:
    """Yield exactly `size` bytes. Raises EOFError when there are fewer."""
    left = size
    while left:
        chunk = stream.read(min(left, CHUNK))
        if not chunk:
            raise EOFError("git ended in the middle of a blob")
        left -= len(chunk)
        yield chunk


def write_blob(places: list[tuple[Path, str]], size: int, stream: BinaryIO) -> None:
    (first, mode), *others = places
    first.parent.mkdir(parents=True, exist_ok=True)
    with first.open("xb") as file:
        file.writelines(pieces(stream, size))
    first.chmod(permissions(mode))
    for place, other_mode in others:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(first.read_bytes())
        place.chmod(permissions(other_mode))


def left(tree: Tree, own: bytes | None, ignore: tuple[str, ...]) -> Tree:
    patterns, faults = ignoring.read(own)
    ignored = ignoring.ignoring((*patterns, *ignore))
    if ignored is ignoring.is_nothing:
        return replace(tree, faults=(*faults, *tree.faults))

    def stays(path: str) -> bool:
        return not ignoring.is_left_out(path, ignored)

    entries = {path: entry for path, entry in tree.entries.items() if stays(path)}
    return replace(
        tree,
        entries=entries,
        faults=(*faults, *(one for one in tree.faults if stays(one.file))),
    )


def permissions(mode: str) -> int:
    return 0o755 if mode == EXECUTABLE else 0o644


def is_read(path: str) -> bool:
    """Tell whether a tree's path is part of a source.

    Names that begin with a dot are not; that also keeps a forged tree from leading out.
    """
    return path != "" and not path.startswith((".", "/")) and "/." not in path and "//" not in path


@dataclass(slots=True)
class Sorted:
    """What a tree's lines are, while they are read."""

    entries: dict[str, Entry] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    special: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def sort_in(path: str, head: str, tree: Sorted) -> None:
    mode, _, blob = head.split(" ")
    if (len(path) > LONGEST_NAME or not path.isascii()) and fault_of_name(path, tree.faults):
        return
    if mode == LINK:
        tree.links[path] = blob
    elif mode == SUBMODULE:
        tree.modules[path] = blob
    else:
        tree.entries[path] = Entry(EXECUTABLE if mode == EXECUTABLE else PLAIN, blob)


def fault_of_name(path: str, faults: list[Fault]) -> bool:
    fault = unspeakable(path) or too_long(path)
    faults += [fault] if fault else []
    return fault is not None


def too_long(path: str) -> Fault | None:
    """No disk takes such a name, and to match it against patterns could last for ever."""
    if path.count("/") > DEEPEST:
        return refused(f"{path[:80]}…", f"it is over {DEEPEST} folders deep", "move it up")
    if len(path.encode()) <= LONGEST_PATH and all(
        len(name.encode()) <= LONGEST_NAME for name in path.split("/")
    ):
        return None
    return refused(f"{path[:80]}…", "its name is too long", "shorten it")


def quoted(path: Path) -> str:
    """Return a path as git reads lists of folders: a colon would separate two."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
