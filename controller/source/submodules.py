"""Submodules as part of a snapshot, when a source asks for them: their files stand at their paths.

Each is fetched by its commit's id from the URL that .gitmodules names, by https or ssh. A login is
sent to the source's own host only.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from controller.errors import StalledError, TransientError
from controller.model.settings import GitSource
from controller.model.source import Entry, Fault
from controller.source import remote
from controller.source.files import refused
from controller.source.large import LargeFiles
from controller.source.mirror import Mirror, Watch
from controller.source.mirrors import Mirrors
from controller.source.objects import MODULES, Objects, Tree
from controller.source.processes import GitError, git

DEEPEST = 5  # submodules of submodules
MOST = 100  # of one commit
MOST_FILES = 1_000_000  # with the source's own
SECONDS = 20.0
MOST_BYTES = 64 << 10  # of .gitmodules
REMEDY = "use https:// or ssh://, or a path relative to the source's URL"


@dataclass(slots=True)
class Grafting:
    """One commit's tree as it grows; `found` are its submodules, by mirror."""

    entries: dict[str, Entry]
    faults: list[Fault]
    found: list[tuple[Mirror, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Site:
    """Where a tree stands: what reaches its repository, its place in the source, what is left."""

    settings: GitSource
    prefix: str = ""
    deep: int = DEEPEST


class Submodules:
    """Adds the files of submodules to the trees of one source."""

    def __init__(
        self, settings: GitSource, mirrors: Mirrors, large: LargeFiles | None = None
    ) -> None:
        self._settings = settings
        self._large = large
        self._mirrors = mirrors
        self._watches: dict[Path, tuple[Mirror, Watch]] = {}  # by the mirror's folder

    @property
    def objects(self) -> tuple[Path, ...]:
        """Folders that hold the objects of all submodules seen."""
        return tuple(folder / "objects" for folder in self._watches)

    async def grafted(self, tree: Tree, objects: Objects, *, hold: bool) -> Tree:
        """Return a tree with its submodules' files; with `hold` only these are kept from pruning.

        A submodule that may not be fetched is a fault of its path alone.

        Raises:
            StalledError, TransientError: one can't be fetched.
            GitError: what was fetched can't be read.
        """
        made = Grafting(dict(tree.entries), list(tree.faults))
        await self._graft(made, tree, objects, Site(self._settings))
        if hold:
            for _, watch in self._watches.values():
                watch.held = set()
        for mirror, commit in made.found:
            self._watches[mirror.folder][1].held.add(commit)
        return replace(tree, entries=made.entries, faults=tuple(made.faults))

    async def mend(self, error: GitError) -> None:
        """Throw away what of the submodules' mirrors is damaged."""
        for mirror, _ in tuple(self._watches.values()):
            await mirror.mend(error)

    async def _graft(self, made: Grafting, tree: Tree, objects: Objects, site: Site) -> None:
        if not tree.modules:
            return
        urls = await self._urls(tree, objects, site.prefix, made)
        for path, commit in tree.modules.items():
            place = site.prefix + path
            url = resolved(site.settings.url, urls.get(path, ""))
            problem = problem_of(url, self._settings.url) or too_many(made, site.deep)
            if problem:
                made.faults.append(refused(place, f"the submodule {problem}", REMEDY))
                continue
            inner = Site(self._reaching(url), f"{place}/", site.deep - 1)
            await self._add(made, commit, inner)

    async def _add(self, made: Grafting, commit: str, site: Site) -> None:
        mirror = self._mirrors.of(site.settings)
        self._watch(mirror)
        made.found.append((mirror, commit))
        await self._fetch(mirror, site, commit)
        objects = Objects(mirror.folder)
        tree = await objects.tree(commit)
        if self._large is not None:
            tree = await self._large.resolved(tree, objects, mirror.depot)
        made.entries |= {site.prefix + path: entry for path, entry in tree.entries.items()}
        made.faults += [replace(one, file=site.prefix + one.file) for one in tree.faults]
        if len(made.entries) > MOST_FILES:
            raise StalledError(
                f"over {MOST_FILES} files with those of submodules",
                reason="TooLarge",
                where=f"submodule {site.prefix.rstrip('/')}",
                remedy="leave out submodules",
            )
        await self._graft(made, tree, objects, site)

    async def _fetch(self, mirror: Mirror, site: Site, commit: str) -> None:
        seconds = site.settings.timeout.total_seconds()
        where = f"submodule {site.prefix.rstrip('/')}: {remote.shown(site.settings.url)}"
        try:
            await mirror.ensure()
            await mirror.have(commit, seconds=seconds)
        except GitError as error:
            if not remote.is_away(error) and await mirror.mend(error):
                await mirror.ensure()
                await mirror.have(commit, seconds=seconds)
                return
            raise remote.meaning(error.text, where) from error
        except (StalledError, TransientError) as error:
            kind = type(error)
            raise kind(
                error.problem, reason=error.reason, where=where, remedy=error.remedy
            ) from error

    def _watch(self, mirror: Mirror) -> None:
        if mirror.folder not in self._watches:
            watch = Watch(None, lambda _: None, lambda: None)
            mirror.watches.append(watch)
            self._watches[mirror.folder] = (mirror, watch)

    async def _urls(
        self, tree: Tree, objects: Objects, prefix: str, made: Grafting
    ) -> dict[str, str]:
        """Return the URL of each submodule by its path, as .gitmodules has it."""
        blob = tree.special.get(MODULES)
        if blob is None:
            return {}
        data = (await objects.contents([blob], limit=MOST_BYTES))[blob]
        words = ("config", "--file", "-", "--null", "--list")
        try:
            told = await git(words, folder=objects.folder, seconds=SECONDS, data=data)
        except GitError:
            made.faults.append(refused(prefix + MODULES, "can't be read", "correct it"))
            return {}
        return dict(urls_of(told.decode("utf-8", "surrogateescape")))

    def _reaching(self, url: str) -> GitSource:
        """Return what reaches a submodule: the source's login where the host is the source's."""
        if origin(url) == origin(self._settings.url):
            return replace(self._settings, url=url)
        return GitSource(
            name=self._settings.name,
            url=url,
            timeout=self._settings.timeout,
            known_hosts=self._settings.known_hosts,
            proxy=self._settings.proxy,
        )

    def close(self) -> None:
        for mirror, watch in self._watches.values():
            mirror.watches.remove(watch)
        self._watches.clear()


def urls_of(told: str) -> Iterator[tuple[str, str]]:
    """Yield path and URL of each submodule of `git config --null --list`."""
    found: dict[str, dict[str, str]] = {}
    for one in told.split("\0"):
        key, _, value = one.partition("\n")
        section, _, field_ = key.rpartition(".")
        if section.startswith("submodule."):
            found.setdefault(section, {})[field_] = value
    for fields in found.values():
        if "path" in fields:
            yield fields["path"].rstrip("/"), fields.get("url", "")


def too_many(made: Grafting, deep: int) -> str:
    if deep == 0:
        return f"stands more than {DEEPEST} submodules deep"
    return f"is one of more than {MOST}" if len(made.found) >= MOST else ""


def problem_of(url: str, source: str) -> str:
    """Return why a submodule isn't fetched; "" when it may be. Never from a path of this host."""
    if not url:
        return "has no URL"
    problem, _ = remote.url_problem(url)
    if problem or remote.local_folder(url) is not None:
        return f"{remote.shown(url)} " + (problem or "is a path of this machine")
    if remote.scheme(url) == "http" and origin(url) != origin(source):
        return f"{remote.shown(url)} is not fetched from: http"
    return ""


def origin(url: str) -> tuple[str, str]:
    """Return scheme and host, with user and port, as a login is given to them."""
    if "://" in url:
        parts = urlsplit(url)
        return parts.scheme, parts.netloc
    return remote.scheme(url), url.partition(":")[0]


def resolved(base: str, url: str) -> str:
    """Return a submodule's URL; one that begins with ./ or ../ starts at the URL of its source.

    "" when it leads above the host.
    """
    if not url.startswith(("./", "../")):
        return url
    if "://" in base:
        head, _, rest = base.partition("://")
        host, _, path = rest.partition("/")
        lead = f"{head}://{host}/"
    elif remote.SCP.match(base):
        host, _, path = base.partition(":")
        lead = f"{host}:"
    else:
        return ""  # a path of this machine
    target = posixpath.normpath(posixpath.join(path.strip("/") or ".", url))
    return "" if target.startswith("..") or target == "." else lead + target
