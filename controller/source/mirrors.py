"""The mirrors of one state directory: one for each URL and login, whoever looks at it."""

import shutil
import weakref
from collections.abc import Collection
from dataclasses import fields
from hashlib import sha256
from pathlib import Path

from controller import digest
from controller.clock import Clock
from controller.model.settings import GitSource
from controller.source import login, remote, verify
from controller.source.mirror import Mirror

OF_A_SOURCE = {
    *("name", "ref", "path", "ignore", "submodules", "lfs", "interval", "timeout", "trusted"),
    *("exports", "prune", "allow_empty", "atomic", "suspend"),
    *("read_from", "share_caches", "verify"),
}
"""Settings that say nothing of how a repository is reached; every other makes another mirror."""


class Mirrors:
    """Hands out mirrors, so that those who look at one repository share one."""

    def __init__(self, state_dir: Path, clock: Clock, secrets: remote.Secret | None = None) -> None:
        self._place = state_dir / "mirrors"
        self._clock = clock
        self._secrets = secrets
        self._used: weakref.WeakValueDictionary[str, Mirror] = weakref.WeakValueDictionary()

    def of(self, settings: GitSource) -> Mirror:
        mark = place_of(settings)
        mirror = self._used.get(mark)
        if mirror is None:
            mirror = Mirror(self._place / mark, settings, self._secrets, self._clock)
            self._used[mark] = mirror
        return mirror

    def forget_logins(self) -> None:
        """Remove what a killed process left of its logins and checks: a key may be among it."""
        for prefix in (login.SCRATCH, verify.SCRATCH):
            for folder in self._place.glob(f"{prefix}*"):
                shutil.rmtree(folder, ignore_errors=True)  # what stays, `prune` tries again

    async def prune(self, commits: Collection[str], before: float) -> int:
        """Keep no other commits than these and those that sources work with, and no mirror that
        is nobody's and was last touched `before` (seconds since the epoch); return how many went.
        """
        gone = 0
        for mirror in list(self._used.values()):
            if mirror.watches:
                gone += await mirror.prune(commits)
        used = {mark for mark, mirror in self._used.items() if mirror.watches}
        for folder in self._place.glob("*/"):
            if folder.name not in used and folder.stat().st_mtime < before:
                shutil.rmtree(folder, ignore_errors=True)  # what stays is seen again next time
                gone += 1
        return gone


def place_of(settings: GitSource) -> str:
    """Return the name of a repository's mirror: what reaches it tells it from others."""
    told = {
        one.name: repr(getattr(settings, one.name))
        for one in fields(settings)
        if one.name not in OF_A_SOURCE
    }
    return sha256(digest.canonical(told).encode()).hexdigest()[:20]
