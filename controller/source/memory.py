"""What a folder's files were at the last look, kept on disk: a start reads only what differs.

It is never trusted: a file whose times are not those remembered is read again. So an old one, or
none, costs reading and nothing else.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import structlog

from controller import digest
from controller.model.source import Entry
from controller.source.files import Found

log = structlog.get_logger()

VERSION = 1


class Memory:
    """One file for one folder."""

    def __init__(self, path: Path, root: Path) -> None:
        self._path, self._root = path, str(root)

    def recall(self) -> dict[str, Found]:
        """Return what was kept, by path; {} when there is nothing that can be used."""
        try:
            told = json.loads(self._path.read_bytes())
            if (told["version"], told["root"]) != (VERSION, self._root):
                return {}
            return dict(found(told["files"]))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("memory_unreadable", file=str(self._path), error=str(error))
            return {}

    def keep(self, known: Mapping[str, Found]) -> None:
        """Replace what was kept; a disk that can't take it is told of, and costs a reading."""
        text = digest.canonical(
            {"version": VERSION, "root": self._root, "files": list(rows(known))}
        )
        draft = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.write_text(text, encoding="utf-8")
            os.replace(draft, self._path)  # noqa: PTH105 - the one call that is atomic
        except OSError as error:
            log.warning("memory_not_kept", file=str(self._path), error=str(error))


def rows(known: Mapping[str, Found]) -> Iterator[list[object]]:
    """Yield the regular files whose times tell them from their changed selves."""
    for path, one in known.items():
        if one.entry is not None and one.signature is not None and one.fault is None:
            yield [path, one.entry.mode, one.entry.blob, *one.signature]


def found(files: list[list[object]]) -> Iterator[tuple[str, Found]]:
    for path, mode, blob, *times in files:
        yield (
            str(path),
            Found(
                entry=Entry(str(mode), str(blob)),
                signature=tuple(times),  # type: ignore[arg-type]  # compared, never reckoned with
                inode=times[3],  # type: ignore[arg-type]  # as `files.times` orders them
            ),
        )
