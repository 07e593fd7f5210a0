"""A bare repository of ours: made, held by refs of our own, pruned, thrown away when damaged."""

import asyncio
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import structlog

from controller import ids
from controller.errors import TransientError
from controller.source import remote
from controller.source.processes import GitError, commit_of, git

log = structlog.get_logger()

SECONDS = 20.0  # for what never leaves this host
TIDY_SECONDS = 600.0
TIDY_AFTER = 50  # commits kept; each leaves a pack of its own
KEEP = "refs/rondel/keep/"


class Holding:
    """Owns one bare repository; every command that writes to it passes here.

    Who writes holds `turn`, but for `ensure`, `drop` and `mend`, which take it themselves.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lives = 0  # how often it was made; what was held in an earlier one is gone
        self.turn = asyncio.Lock()
        self._tidied = 0

    def is_there(self) -> bool:
        return (self.folder / "HEAD").is_file()

    async def ensure(self) -> None:
        """Make the repository if it isn't there; it appears whole or not at all."""
        if self.is_there():
            return
        async with self.turn:
            if self.is_there():
                return
            self.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = self.folder.with_name(f"{self.folder.name}.{ids.nonce()}")
            try:
                await self.git("init", "--quiet", "--bare", "--template=", str(draft))
                shutil.rmtree(self.folder, ignore_errors=True)
                draft.rename(self.folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
            self.lives += 1

    # Commits.

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
        if not await self.keeps(commit):
            await self.git("update-ref", KEEP + commit, commit)
            await self.release(commit)
        return commit

    async def release(self, commit: str) -> None:
        """Refs to its ancestors are no longer needed: `commit` holds them."""
        told = await self.git("for-each-ref", f"--merged={commit}", "--format=%(refname)", KEEP)
        await self._delete(ref for ref in told.decode().split() if ref != KEEP + commit)

    # Letting go.

    async def drop(self, commits: Collection[str], refs: Collection[str]) -> int:
        """Keep no other commits than these, and of our refs these; return how many refs went.

        What no ref holds any more stays for two weeks more.
        """
        if not self.is_there():
            return 0
        async with self.turn:
            wanted = {*(KEEP + one for one in commits), *refs}
            told = await self.git("for-each-ref", "--format=%(refname)", "refs/rondel")
            there = set(told.decode().split())
            gone = there - wanted
            if gone:
                # What goes may have held an older commit of a run, whose own ref was released.
                await self._update(
                    f"create {KEEP}{one} {one}" for one in await self._lacking(commits, there)
                )
                await self._delete(gone)
                await self._collect()
            return len(gone)

    async def _lacking(self, commits: Collection[str], refs: Collection[str]) -> list[str]:
        """Return those of the commits that are here and have no ref of their own."""
        asked = [one for one in commits if KEEP + one not in refs]
        told = await self.git(
            "cat-file", "--batch-check", data="".join(f"{one}\n" for one in asked)
        )
        lines = (line.split(" ") for line in told.decode().splitlines())
        return [line[0] for line in lines if line[1:2] == ["commit"]]

    async def _delete(self, refs: Iterable[str]) -> None:
        await self._update(f"delete {ref}" for ref in refs)

    async def _update(self, lines: Iterable[str]) -> None:
        data = "".join(f"{line}\n" for line in lines)
        if data:
            await self.git("update-ref", "--stdin", data=data)

    async def tidy(self) -> None:
        """Pack what many fetches have left behind; what a ref holds stays."""
        self._tidied += 1
        if self._tidied % TIDY_AFTER == 0:
            await self._collect()

    async def _collect(self) -> None:
        words = ["gc", "--quiet", "--prune=2.weeks.ago"]
        await git(words, folder=self.folder, seconds=TIDY_SECONDS)

    # Damage.

    async def mend(self, error: GitError) -> bool:
        """Throw the repository away if it is damaged; tell whether it was. The next look makes it.

        What git says while it talks to a remote may be the remote's damage: then only what is
        here is asked for. What it can't read here, it is asked for bit by bit.
        """
        async with self.turn:
            if not self.is_there():
                return True
            quick = ("--connectivity-only",) if error.command in remote.COMMANDS else ()
            try:
                await self.git("fsck", *quick, "--no-dangling", "--no-progress", limit=TIDY_SECONDS)
            except GitError as damage:
                log.warning("mirror_damaged", folder=str(self.folder), error=damage.text[-500:])
            except TransientError:  # nobody knows: it stays
                return False
            else:
                return False
            away = self.folder.with_name(f"{self.folder.name}.{ids.nonce()}")
            self.folder.rename(away)
            await asyncio.to_thread(shutil.rmtree, away, ignore_errors=True)
            return True

    def _unlock(self) -> int:
        """Remove the locks that killed commands left: while it is our turn nobody holds one."""
        locks = [path for path in self.folder.rglob("*.lock") if path.is_file()]
        for path in locks:
            path.unlink(missing_ok=True)
        return len(locks)

    # Commands.

    async def git(
        self,
        *words: str,
        data: str | None = None,
        limit: float = SECONDS,
        env: Mapping[str, str] | None = None,
    ) -> bytes:
        encoded = data.encode() if data is not None else None
        try:
            return await git(words, folder=self.folder, seconds=limit, data=encoded, env=env)
        except GitError as error:
            if not ("File exists" in error.text and ".lock'" in error.text and self._unlock()):
                raise
        return await git(words, folder=self.folder, seconds=limit, data=encoded, env=env)
