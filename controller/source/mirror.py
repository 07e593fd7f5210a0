"""The bare repository in the state directory: what was fetched, held by refs of our own."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from controller import ids
from controller.model.settings import GitSource
from controller.source import remote
from controller.source.processes import GitError, commit_of, git

SECONDS = 20.0  # for what never leaves this host
TIDY_SECONDS = 600.0
TIDY_AFTER = 50  # commits kept; each leaves a pack of its own
FETCHED = "refs/rondel/fetched"
KEEP = "refs/rondel/keep/"
EVERYTHING = ("+refs/heads/*:refs/rondel/all/heads/*", "+refs/tags/*:refs/rondel/all/tags/*")


@dataclass(frozen=True, slots=True)
class Told:
    """What a remote says of its refs; `head` is the branch that its HEAD is, if it is one."""

    refs: Mapping[str, str]
    head: str | None = None


class Mirror:
    """Owns one bare repository; every command on it passes here."""

    def __init__(self, folder: Path, settings: GitSource, secrets: remote.Secret | None) -> None:
        self.folder = folder
        self._settings = settings
        self._secrets = secrets
        self._kept = 0

    async def ensure(self) -> None:
        """Make the repository if it isn't there; it appears whole or not at all."""
        if (self.folder / "HEAD").is_file():
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.folder.with_name(f"{self.folder.name}.{ids.nonce()}")
        try:
            await self._git("init", "--quiet", "--bare", "--template=", str(draft))
            shutil.rmtree(self.folder, ignore_errors=True)
            draft.rename(self.folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    async def listed(self, *patterns: str) -> Told:
        """Ask the remote for refs by their full names; all of them when none is named."""
        words = ("ls-remote", "--symref", "--end-of-options", self._settings.url, *patterns)
        refs, head = {}, None
        for line in (await self._remote(*words)).decode("utf-8", "surrogateescape").splitlines():
            value, _, name = line.partition("\t")
            if value.startswith("ref: ") and name == "HEAD":
                head = value.removeprefix("ref: ")
            elif not value.startswith("ref: "):
                refs[name] = value
        return Told(refs, head)

    async def fetch(self, ref: str) -> str:
        """Fetch a full ref's name or an id, whatever it was before; return its commit, kept."""
        await self._fetch(f"+{ref}:{FETCHED}")
        return await self.hold(FETCHED)

    async def fetch_everything(self) -> None:
        """Fetch all branches and tags, for servers that don't give a commit by its id."""
        await self._fetch(*EVERYTHING)

    async def keep(self, commit: str, origin: Path) -> None:
        """Copy a commit from a repository of this host, so that a run can have it later."""
        if not await self.keeps(commit):
            await self._fetch(f"+{commit}:{KEEP}{commit}", origin=str(origin))
            await self._release(commit)

    async def keeps(self, commit: str) -> bool:
        try:
            await self.commit(KEEP + commit)
        except GitError:
            return False
        return True

    async def commit(self, ref: str) -> str:
        """Return the commit of a ref or id that is here. Raises GitError when there is none."""
        return await commit_of(ref, folder=self.folder, seconds=SECONDS)

    async def hold(self, ref: str) -> str:
        """Keep what is here by the name or id `ref`; return its commit."""
        commit = await self.commit(ref)
        await self._git("update-ref", KEEP + commit, commit)
        await self._release(commit)
        return commit

    async def _release(self, commit: str) -> None:
        """Refs to its ancestors are no longer needed: `commit` holds them."""
        told = await self._git("for-each-ref", f"--merged={commit}", "--format=%(refname)", KEEP)
        old = [ref for ref in told.decode().split() if ref != KEEP + commit]
        if old:
            await self._git("update-ref", "--stdin", data="".join(f"delete {ref}\n" for ref in old))

    async def tidy(self) -> None:
        """Pack what many fetches have left behind; what a ref holds stays."""
        self._kept += 1
        if self._kept % TIDY_AFTER == 0:
            words = ["gc", "--quiet", "--prune=2.weeks.ago"]
            await git(words, folder=self.folder, seconds=TIDY_SECONDS)

    async def _fetch(self, *refspecs: str, origin: str = "") -> None:
        options = ("--quiet", "--no-tags", "--force", "--no-write-fetch-head", "--update-shallow")
        url = origin or self._settings.url
        await self._remote(
            "fetch", *options, "--no-recurse-submodules", "--end-of-options", url, *refspecs
        )

    async def _remote(self, *words: str) -> bytes:
        async with remote.login(self._settings, self._secrets, self.folder) as env:
            limit = self._settings.timeout.total_seconds()
            return await git(words, folder=self.folder, seconds=limit, env=env)

    async def _git(self, *words: str, data: str | None = None) -> bytes:
        encoded = data.encode() if data is not None else None
        return await git(words, folder=self.folder, seconds=SECONDS, data=encoded)
