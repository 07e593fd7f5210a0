"""A place to snapshots: folders and Git repositories."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from controller.clock import Clock
from controller.model.settings import DirectorySource, GitSource
from controller.source.ports import Source

if TYPE_CHECKING:
    from controller.source.mirrors import Mirrors


def open_source(
    settings: GitSource | DirectorySource,
    *,
    state_dir: Path,
    clock: Clock,
    secrets: Callable[[str], Awaitable[str]] | None = None,
    mirrors: "Mirrors | None" = None,
    applied: str = "",
) -> Source:
    """Return the source that the settings describe; nothing is read before `snapshots()`.

    `secrets` gives the operator's secrets by name, for logins. Sources that are given the same
    `mirrors` share what they fetch. `applied` is the revision that works since an earlier life.

    Raises:
        UsageError: a URL, a ref or a pattern that can't be one.
    """
    if isinstance(settings, DirectorySource):
        from controller.source.directory import Directory  # noqa: PLC0415 - one of the two
        from controller.source.memory import Memory  # noqa: PLC0415 - as above

        memory = Memory(state_dir / "sources" / f"{settings.name}.json", Path(settings.path))
        return Directory(settings, clock=clock, memory=memory)
    from controller.source.git import Git  # noqa: PLC0415 - one of the two
    from controller.source.mirrors import Mirrors  # noqa: PLC0415 - as above

    shared = mirrors or Mirrors(state_dir, clock, secrets)
    return Git(settings, mirrors=shared, clock=clock, applied=applied)


__all__ = ["Source", "open_source"]
