"""A Git repository on this machine: where its refs and objects are, and whose it is."""

import os
from dataclasses import dataclass
from pathlib import Path

from controller.errors import StalledError
from controller.model.settings import GitSource
from controller.source import remote
from controller.source.processes import commit_of, git

SECONDS = 20.0
UNTELLING = {"index", "COMMIT_EDITMSG", "ORIG_HEAD", "FETCH_HEAD", "logs", "objects", "gc.pid"}


@dataclass(frozen=True, slots=True)
class LocalRepository:
    """`git_dir` is a worktree's own when it is one; refs and objects stand in `common`."""

    git_dir: Path
    common: Path

    @property
    def objects(self) -> Path:
        return self.common / "objects"

    def check(self, *, trusted: bool) -> None:
        """Refuse what isn't there or isn't ours.

        Raises:
            StalledError: RepositoryNotFound, NotTrusted.
        """
        where = str(self.git_dir)
        if not (self.git_dir / "HEAD").is_file():
            raise StalledError(
                "there is no repository",
                reason="RepositoryNotFound",
                where=where,
                remedy="correct `url`",
            )
        owners = {self.git_dir.stat().st_uid, self.common.stat().st_uid}
        if not trusted and owners != {os.geteuid()}:
            raise StalledError(
                "the repository belongs to another user",
                reason="NotTrusted",
                where=where,
                remedy="set `trusted: true` if its owner may decide what runs",
            )

    async def head(self) -> tuple[str, str]:
        """Return HEAD's commit and the branch it is, "HEAD" when it is detached.

        Raises:
            GitError: there is no commit.
        """
        words = ["rev-parse", "HEAD^{commit}", "--symbolic-full-name", "HEAD"]
        told = await git(words, folder=self.git_dir, seconds=SECONDS)
        commit, name = told.decode().split()
        return commit, name.removeprefix("refs/heads/")

    async def commit(self, ref: str) -> str:
        """Return the commit of a full ref's name or an id. Raises GitError when there is none."""
        return await commit_of(ref, folder=self.git_dir, seconds=SECONDS)

    async def tags(self) -> dict[str, str]:
        """Return each tag's object, as they all were at one moment."""
        words = ["for-each-ref", "--format=%(objectname) %(refname)", "refs/tags"]
        told = (await git(words, folder=self.git_dir, seconds=SECONDS)).decode(errors="replace")
        lines = (line.partition(" ") for line in told.split("\n") if line)
        return {name.removeprefix("refs/tags/"): found for found, _, name in lines}

    async def object(self, ref: str) -> str:
        """Return what a ref is at, a tag unpeeled. Raises GitError when there is none."""
        words = ("rev-parse", "--verify", "--end-of-options", ref)
        return (await git(words, folder=self.git_dir, seconds=SECONDS)).decode().strip()

    async def is_empty(self) -> bool:
        words = ["for-each-ref", "--count=1", "--format=%(refname)"]
        return not await git(words, folder=self.git_dir, seconds=SECONDS)

    def ref_folders(self, ref: str) -> tuple[Path, ...]:
        """Return the folders in which a change may mean that `ref` moved."""
        if ref == "HEAD":
            text = read(self.git_dir / "HEAD")
            ref = text.removeprefix("ref: ") if text.startswith("ref: ") else ref
        above = (self.common / folder for folder in reversed(Path(ref).parents))
        tables = self.common / "reftable"
        found = (self.git_dir, self.common, *above, tables)
        return tuple(dict.fromkeys(folder for folder in found if folder.is_dir()))


def local_repository(settings: GitSource) -> LocalRepository | None:
    """Return the repository of a file:// URL or a path as it is now; None for a remote one."""
    git_dir = local_git_dir(settings)
    return LocalRepository(git_dir, common_dir(git_dir)) if git_dir is not None else None


def local_git_dir(settings: GitSource) -> Path | None:
    """Return the Git directory of a local repository: bare, a work tree's, or a worktree's."""
    folder = remote.local_folder(settings.url)
    if folder is None:
        return None
    inner = folder / ".git"
    if inner.is_file():
        return (folder / read(inner).removeprefix("gitdir: ")).resolve()
    return inner if inner.is_dir() else folder


def common_dir(git_dir: Path) -> Path:
    """Return where a worktree's shared refs and objects are."""
    pointer = git_dir / "commondir"
    return (git_dir / read(pointer)).resolve() if pointer.is_file() else git_dir


def read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="surrogateescape").strip()
    except FileNotFoundError:
        return ""


def tells(path: str) -> bool:
    """Tell whether a changed path of a Git directory may mean a moved ref."""
    folder, _, name = path.rpartition("/")
    return not name.endswith(".lock") and ("/refs" in folder or name not in UNTELLING)
