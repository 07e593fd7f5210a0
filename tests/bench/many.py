"""Many manifests and the daemon that loads them; made once for the operations that need them."""

import time
from pathlib import Path

from tests.bench import manifests
from tests.bench.measure import must
from tests.bench.scale import Scale
from tests.bench.serving import Serving

PLANNED = "SELECT count(*) FROM workflow WHERE NOT retired"


def place(folder: Path) -> Path:
    """The folder that operations of one bench share."""
    return folder.parent / "many"


def written(folder: Path, scale: Scale) -> Path:
    """Return the watched folder with all manifests in it."""
    watched = place(folder) / "watched"
    if not watched.exists():
        manifests.write_many(watched, scale.manifests)
    return watched


def start(folder: Path, scale: Scale) -> Serving:
    return Serving(place(folder), "--source", str(written(folder, scale)))


def planned(daemon: Serving, scale: Scale) -> float:
    """Wait until the store holds a judgement of every manifest; return seconds from the start."""
    daemon.until(lambda: daemon.count(PLANNED) >= scale.manifests, "all are planned", pause=0.02)
    wall = time.perf_counter() - daemon.started
    must(daemon.count(PLANNED) == scale.manifests, "a workflow too many")
    must(f'"workflows": {scale.manifests}'.encode() in daemon.log(), "all are loaded")
    return wall


def ensure(folder: Path, scale: Scale) -> None:
    """Have a state directory that knows every manifest."""
    if (place(folder) / "state").exists():
        return
    daemon = start(folder, scale)
    try:
        planned(daemon, scale)
    finally:
        daemon.stop()
