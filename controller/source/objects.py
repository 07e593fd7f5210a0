"""Git's objects: one pass over a commit's tree, one child for the contents asked for."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.model.source import Entry, Fault
from controller.source.files import link_target, refused
from controller.source.processes import git, started

LINK, SUBMODULE = "120000", "160000"
READ_SECONDS = 120.0
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of one commit, links resolved; the faults of what can't be read."""

    entries: Mapping[str, Entry]
    faults: tuple[Fault, ...] = ()


class Objects:
    """Reads the objects of a bare repository; `alternates` are others to look in as well."""

    def __init__(self, folder: Path, alternates: Path | None = None) -> None:
        self._folder = folder
        self._env = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(alternates)} if alternates else {}

    async def tree(self, commit: str) -> Tree:
        """Return every file of a commit. Raises GitError when there is no such commit."""
        listed = await git(
            ["ls-tree", "-r", "-z", "--full-tree", commit],
            folder=self._folder,
            seconds=READ_SECONDS,
            env=self._env,
        )
        entries: dict[str, Entry] = {}
        links: dict[str, str] = {}
        faults: list[Fault] = []
        for line in listed.split(b"\0"):
            if line:
                self._sort_in(line, entries, links, faults)
        if links:
            await self._follow(entries, links, faults)
        return Tree(entries, tuple(faults))

    def _sort_in(
        self, line: bytes, entries: dict[str, Entry], links: dict[str, str], faults: list[Fault]
    ) -> None:
        head, raw = line.split(b"\t", 1)
        mode, _, blob = head.decode().split(" ")
        try:
            path = raw.decode()
        except UnicodeDecodeError:
            shown = raw.decode("ascii", "backslashreplace")
            faults.append(refused(shown, "its name is not UTF-8", "rename it"))
            return
        if mode == LINK:
            links[path] = blob
        elif mode != SUBMODULE:
            entries[path] = Entry(mode, blob)

    async def _follow(
        self, entries: dict[str, Entry], links: dict[str, str], faults: list[Fault]
    ) -> None:
        """A link inside the repository to a regular file is followed, once."""
        targets = await self.contents(links.values())
        regular = dict(entries)
        for path, blob in links.items():
            target = link_target(path, targets[blob].decode("utf-8", "replace"))
            if target in regular:
                entries[path] = regular[target]
            elif not any(part.startswith(".") for part in path.split("/")):
                problem = "is a link to something other than a regular file of the repository"
                faults.append(refused(path, problem, "commit the file itself"))

    async def contents(self, blobs: Iterable[str]) -> dict[str, bytes]:
        """Return the content of each blob, by id."""
        wanted = list(dict.fromkeys(blobs))
        found: dict[str, bytes] = {}
        async for blob, chunks in self.stream(wanted):
            found[blob] = b"".join([chunk async for chunk in chunks])
        return found

    async def stream(self, blobs: list[str]) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
        """Yield each blob with its content in pieces, in the order asked; read one before the next.

        Raises:
            KeyError: there is no such blob.
        """
        if not blobs:
            return
        async with (
            asyncio.timeout(READ_SECONDS),
            started(
                ["cat-file", "--batch"],
                folder=self._folder,
                env=self._env,
                stdin=asyncio.subprocess.PIPE,
            ) as process,
        ):
            assert process.stdin is not None  # noqa: S101 - a pipe was asked for
            assert process.stdout is not None  # noqa: S101 - as above
            asking = asyncio.create_task(ask(process.stdin, blobs))
            try:
                for blob in blobs:
                    header = (await process.stdout.readline()).split()
                    if len(header) != 3:  # noqa: PLR2004 - id, type, size
                        raise KeyError(blob)
                    yield blob, pieces(process.stdout, int(header[2]))
                    await process.stdout.readexactly(1)
            finally:
                asking.cancel()


async def ask(stdin: asyncio.StreamWriter, blobs: list[str]) -> None:
    stdin.write("".join(f"{blob}\n" for blob in blobs).encode())
    await stdin.drain()
    stdin.close()


async def pieces(stdout: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    left = size
    while left:
        chunk = await stdout.read(min(left, CHUNK))
        if not chunk:
            raise EOFError
        left -= len(chunk)
        yield chunk


async def write_files(objects: Objects, files: Mapping[str, Entry], target: Path) -> None:
    """Write files (by path relative to `target`; "" is `target` itself) with their modes."""
    places: dict[str, list[tuple[Path, str]]] = {}
    for path, entry in files.items():
        place = target / path if path else target
        places.setdefault(entry.blob, []).append((place, entry.mode))
    async for blob, chunks in objects.stream(list(places)):
        (first, mode), *others = places[blob]
        first.parent.mkdir(parents=True, exist_ok=True)
        with first.open("xb") as file:
            async for chunk in chunks:
                file.write(chunk)
        first.chmod(permissions(mode))
        for place, other_mode in others:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(first.read_bytes())
            place.chmod(permissions(other_mode))


def permissions(mode: str) -> int:
    return 0o755 if mode == "100755" else 0o644


def readable_by_us(path: Path) -> bool:
    return path.exists() and path.stat().st_uid == os.geteuid()
