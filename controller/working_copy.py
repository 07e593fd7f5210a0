"""A folder or a repository of this machine, compared without a daemon; nothing of it is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from controller import config as configuration
from controller.clock import Clock
from controller.errors import UsageError
from controller.model.settings import DirectorySource, GitSource, Settings
from controller.reconcile.preview import Side
from controller.sides import Comparison, Sides
from controller.source.files import scan
from controller.source.folder import ignored_in
from controller.source.local import common_dir, local_git_dir
from controller.source.objects import Objects
from controller.source.processes import GitError, commit_of
from controller.source.remote import local_folder

if TYPE_CHECKING:
    from controller.store import Reader

SECONDS = 20.0


class WorkingCopy:
    """Where a side's files come from: a folder, maybe inside a repository."""

    def __init__(
        self,
        source: GitSource | DirectorySource,
        settings: Settings,
        store: "Reader | None",
        clock: Clock,
    ) -> None:
        self._source = source
        self._store = store
        self._clock = clock
        self._git_dir = local_git_dir(source) if isinstance(source, GitSource) else None
        self._sides = Sides(source, settings, store)

    async def compare(self, base: str | None, head: str | None) -> Comparison:
        """Return what follows from `head` (None: the files as they are) in this source.

        `base` is a revision; None: what is loaded.
        """
        after = await self._at(head) if head or self._is_bare else await self._as_it_is()
        before = await self._at(base) if base else None
        return await self._sides.compare(before, after, self._store, self._clock)

    @property
    def root(self) -> Path:
        if isinstance(self._source, DirectorySource):
            return Path(self._source.path)
        return local_folder(self._source.url) or Path(self._source.url)

    @property
    def _is_bare(self) -> bool:
        return self._git_dir is not None and self._git_dir == self.root

    async def _at(self, revision: str | None) -> Side:
        """Return a side as a revision has it. Raises UsageError when there is none of that name."""
        if self._git_dir is None:
            raise UsageError(
                "is not a Git repository on this machine",
                where=str(self.root),
                remedy="--base and --head compare revisions of one",
            )
        objects = Objects(common_dir(self._git_dir))
        try:
            commit = await commit_of(revision or "HEAD", folder=self._git_dir, seconds=SECONDS)
            tree = await objects.without_ignored(await objects.tree(commit), self._source.ignore)
        except GitError as error:
            raise UsageError(f"there is no revision {revision!r}", where=str(self.root)) from error
        return await self._sides.side(
            tree.entries, lambda wanted: objects.contents(wanted.values())
        )

    async def _as_it_is(self) -> Side:
        found = scan(self.root, ignored_in(self.root, self._source.ignore), {}, 0).found
        entries = {path: one.entry for path, one in found.items() if one.entry is not None}

        async def read(wanted: Mapping[str, str]) -> Mapping[str, bytes]:
            return {blob: (self.root / path).read_bytes() for path, blob in wanted.items()}

        return await self._sides.side(entries, read)


def opened(settings: Settings) -> "Reader | None":
    """Return a reader of the store; None where there is none. Raises as `Reader.open`."""
    state = Path(settings.state_dir)
    if not state.is_dir():
        return None
    from controller.store import Reader  # noqa: PLC0415 - SQLAlchemy costs 150 ms
    from controller.store.place import database_path  # noqa: PLC0415 - as above

    if not database_path(state, settings.store_url).exists():
        return None
    return Reader.open(state, settings.store_url)


def source_of(text: str, settings: Settings) -> GitSource | DirectorySource:
    """Return the configured source of that name, or the folder or repository of that path.

    A folder inside a work tree is that repository, its manifests read below the folder.
    """
    for one in settings.sources:
        if one.name == text:
            return one
    folder = Path(text).absolute()
    if not folder.is_dir():
        raise UsageError("there is no such source or folder", where=text)
    source = configuration.source_at(text, taken=set())
    if isinstance(source, GitSource):
        return source
    for above in folder.parents:
        if (above / ".git").exists():
            path = folder.relative_to(above).as_posix()
            name = configuration.free_name(str(above), set())
            return GitSource(name=name, url=above.as_uri(), path=path, trusted=True)
    return source
