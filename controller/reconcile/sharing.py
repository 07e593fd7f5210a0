"""Sources that read the same manifests: each of their workflows is there, and runs, twice."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from controller.model.condition import SourceStatus, standing

SHARED = "SharedManifests"


class Reach(NamedTuple):
    """What a source reads: the manifests below a folder, of one line of history in one place."""

    place: str  # a repository's URL; "" for the folders of this host
    line: str  # the branch or tag that is followed; "" for folders
    folder: str  # "" for the root


def shared(reaches: Mapping[str, Reach]) -> Mapping[str, tuple[str, ...]]:
    """Return for each source that reads what others read, too, the names of those."""
    fellows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, reach in reaches.items():
        fellows[reach.place, reach.line].append(name)
    found = {
        name: tuple(
            other
            for other in sorted(fellows[reach.place, reach.line])
            if other != name and meet(reach.folder, reaches[other].folder)
        )
        for name, reach in reaches.items()
    }
    return {name: others for name, others in found.items() if others}


def meet(one: str, other: str) -> bool:
    """Tell whether one of two folders is the other, or holds it."""
    return is_within(one, other) or is_within(other, one)


def is_within(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(folder.rstrip("/") + "/")


def with_shared(status: SourceStatus, others: tuple[str, ...], now: datetime) -> SourceStatus:
    """Return a source's status with the condition that others read its manifests, while any do."""
    words = (
        f"read by {', '.join(others)}, too: each workflow is there once for each source,"
        " with runs of its own"
    )
    told = ("SameManifests", words) if others else ("", "")
    conditions = standing(status.conditions, SHARED, told, now, status.generation)
    return replace(status, conditions=conditions)
