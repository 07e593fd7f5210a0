"""What stands in a folder, by Git's names; a look costs what has changed."""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from controller.model.source import Entry, Fault
from controller.source import ignoring
from controller.source.confined import opened
from controller.source.files import Found, Times, Walk, closed, look, now_ns, signature, times, walk
from controller.source.ignoring import parents
from controller.source.listing import Listing
from controller.source.settling import Settling, Verdict

CONTENT_LIMIT = 64 << 20  # bytes of manifests kept between a look and their reading


class Folder:
    """The files below `root`, as last seen. Used from one thread at a time."""

    def __init__(self, root: Path, ignore: tuple[str, ...]) -> None:
        self.root = root
        self.ignored = ignoring.ignoring(ignore)
        self._ignore = ignore
        self._patterns: Times | None = None  # of .rondelignore as it was read; (): read it again
        self._bad_patterns: tuple[Fault, ...] = ()
        self.entries: dict[str, Entry] = {}  # replaced, never changed
        self.contents = Contents()
        self.settling = Settling(root)
        self._known: dict[str, Found] = {}
        self._listing = Listing()
        self._closed: dict[str, Fault] = {}  # folders that can't be looked into
        self._faulty: dict[str, Fault] = {}  # files
        self._links: dict[str, str] = {}  # link -> its target

    @property
    def faults(self) -> tuple[Fault, ...]:
        found = (one for _, one in sorted({**self._closed, **self._faulty}.items()))
        return (*self._bad_patterns, *found)

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Paths at or below which nothing counts as removed."""
        return tuple(fault.file for fault in self.faults)

    @property
    def known(self) -> Mapping[str, Found]:
        """What was found, by path."""
        return self._known

    def recall(self, found: Mapping[str, Found]) -> None:
        """Begin with what an earlier process found, as if it had just been looked at."""
        self._known = dict(found)
        self.entries = {path: one.entry for path, one in found.items() if one.entry is not None}
        self._listing.put_all(found.items())

    def digest(self) -> str:
        return self._listing.digest()

    def look(self, places: Iterable[str]) -> frozenset[str]:
        """Look at files and folders, "" being all of it; return the paths whose entry changed.

        What may be in the middle of a change stays as it was; `settling.paths` names it.

        Raises:
            OSError: the folder itself is gone or can't be listed.
        """
        now = now_ns()
        if not stat.S_ISDIR(self.root.stat().st_mode):
            raise NotADirectoryError(self.root)
        changed: dict[str, Found | None] = {}
        places = set(places)
        if places & {"", ignoring.FILE} and self._patterns_changed(now):
            places = {""}
        for place in self._with_links(places - {ignoring.FILE}):
            self._look_at(place, now, changed)
        self._hold_renamed(changed)
        return self._take(changed)

    def _patterns_changed(self, now: int) -> bool:
        """Read .rondelignore when it isn't what it was, and not in the middle of a change."""
        try:
            info = os.lstat(self.root / ignoring.FILE)
        except FileNotFoundError:
            info = None
        if (times(info) if info else None) == self._patterns:
            return False
        verdict = self.settling.judge(ignoring.FILE, info, None, now)
        if verdict is Verdict.WAIT:
            return False
        patterns, self._bad_patterns = patterns_of(self.root, info)
        self._patterns = (signature(info, now) or ()) if info else None
        before, self.ignored = self.ignored, ignoring.ignoring((*patterns, *self._ignore))
        return before is not self.ignored

    def _with_links(self, places: set[str]) -> set[str]:
        """A link changes with its target."""
        if "" in places:
            return {""}
        return places | {link for link, target in self._links.items() if target in places}

    def _look_at(self, place: str, now: int, changed: dict[str, Found | None]) -> None:
        here = self._listed(place)
        for path, info in here:
            known = self._known.get(path)
            if known is None or known.signature != times(info):
                self._judge(path, info, now, changed)
        seen = {path for path, _ in here}
        for path in self._listing.at(place):
            if path not in seen and not self._hidden(path):
                self._judge(path, None, now, changed)

    def _judge(
        self, path: str, info: os.stat_result | None, now: int, changed: dict[str, Found | None]
    ) -> None:
        """Take a path as it is now, unless it may be in the middle of a change."""
        verdict = self.settling.judge(path, info, self._known.get(path), now)
        if verdict is Verdict.WAIT:
            return
        found = self._seen(path, info, now) if info else None
        if verdict is Verdict.WHOLE and info and changed_since(self.root / path, info):
            self.settling.wait(path, info)
            return
        changed[path] = found
        self._note(path, found.fault if found else None)

    def _hold_renamed(self, changed: dict[str, Found | None]) -> None:
        """What was renamed is taken with the look that takes its old name as gone.

        Else it would be there twice for a moment. An old name may come back: editors move a file
        aside before they write it anew.
        """
        leaving = {one.inode for path in self.settling.gone if (one := self._known.get(path))}
        for path, found in tuple(changed.items()):
            if found is not None and found.inode in leaving and path not in self._known:
                del changed[path]
                self.settling.hold(path)

    def _listed(self, place: str) -> list[tuple[str, os.stat_result]]:
        """Return the files at or below `place`; note what can't be looked into."""
        for folder in [one for one in self._closed if is_at_or_below(one, place)]:
            del self._closed[folder]
        found = self._walk(place)
        self._closed |= {path: closed(path, problem) for path, problem in found.closed.items()}
        return found.files

    def _walk(self, place: str) -> Walk:
        if not place:
            return walk(self.root, "", self.ignored)
        try:
            info = os.lstat(self.root / place)
            if stat.S_ISDIR(info.st_mode):
                return walk(self.root, place, self.ignored)
        except (FileNotFoundError, NotADirectoryError):
            return Walk()
        except OSError as error:
            return Walk(closed={place: error.strerror or str(error)})
        return Walk(files=[(place, info)])

    def _seen(self, path: str, info: os.stat_result, now: int) -> Found | None:
        found = look(self.root, path, info, now, self.contents.keep)
        if found is None or found.fault is None:
            return found
        # What can't be read any more is taken as it was.
        known = self._known.get(path)
        return replace(found, entry=known.entry if known else None)

    def _note(self, path: str, fault: Fault | None) -> None:
        self._faulty.pop(path, None)
        if fault is not None:
            self._faulty[path] = fault

    def _hidden(self, path: str) -> bool:
        """Tell whether something above `path`, or itself, keeps us from seeing it."""
        above = parents(path)
        return path in self._closed or any(
            one in self._closed or one in self._faulty for one in above
        )

    def _take(self, changed: dict[str, Found | None]) -> frozenset[str]:
        before, entries = self.entries, dict(self.entries)
        for path, found in changed.items():
            self._remember(path, found)
            if found is not None and found.entry is not None:
                entries[path] = found.entry
            else:
                entries.pop(path, None)
        self._listing.put_all(changed.items())
        moved = frozenset(path for path in changed if before.get(path) != entries.get(path))
        if moved:
            self.entries = entries
        return moved

    def _remember(self, path: str, found: Found | None) -> None:
        self._links.pop(path, None)
        if found is None:
            self._known.pop(path, None)
            self.contents.drop(path)
            return
        self._known[path] = found
        if found.target is not None:
            self._links[path] = found.target


class Contents:
    """What manifests hold, kept from the look that hashed them until they are read."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}
        self._size = 0

    def keep(self, path: str, data: bytes) -> None:
        self.drop(path)
        if self._size + len(data) <= CONTENT_LIMIT:
            self._data[path] = data
            self._size += len(data)

    def get(self, path: str) -> bytes | None:
        return self._data.get(path)

    def drop(self, path: str) -> None:
        self._size -= len(self._data.pop(path, b""))

    def clear(self) -> None:
        self._data, self._size = {}, 0


def patterns_of(
    root: Path, info: os.stat_result | None
) -> tuple[tuple[str, ...], tuple[Fault, ...]]:
    """Return the patterns of the folder's .rondelignore, and what is wrong with it."""
    if info is None:
        return (), ()
    if not stat.S_ISREG(info.st_mode):
        return (), (ignoring.fault(0, "is not a regular file", "write it in place"),)
    try:
        with opened(root, ignoring.FILE) as file:
            return ignoring.read(os.read(file, ignoring.MOST_BYTES + 1))
    except OSError as error:
        return (), (closed(ignoring.FILE, error.strerror or str(error)),)


def ignored_in(root: Path, ignore: tuple[str, ...]) -> ignoring.Ignored:
    """Return what tells whether a path of a folder is ignored, as the folder is now."""
    try:
        info = os.lstat(root / ignoring.FILE)
    except FileNotFoundError:
        info = None
    patterns, _ = patterns_of(root, info)
    return ignoring.ignoring((*patterns, *ignore))


def changed_since(full: Path, info: os.stat_result) -> bool:
    """Tell whether a file was written to while we read it."""
    try:
        return times(full.lstat()) != times(info)
    except OSError:
        return True


def is_at_or_below(path: str, place: str) -> bool:
    return not place or path == place or path.startswith(place + "/")
