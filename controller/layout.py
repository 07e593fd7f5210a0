"""Where things lie in the state directory. Rooms that don't know each other agree on it here."""

from pathlib import Path

SHARD = 2  # letters of a blob's name that are its folder's


def segment(state_dir: Path, run: str, step: str, index: int, number: int) -> Path:
    """Return where the live log of an attempt is; `index` is that of a matrix' combination."""
    return logs(state_dir) / run / f"{step}.{index}.{number}.jsonl"


def logs(state_dir: Path) -> Path:
    """Return the folder in which every run with live logs has one of its own."""
    return state_dir / "logs"


def tail(segment: Path) -> Path:
    """Return where the newest lines of a live log are once it is over its limit."""
    return segment.with_suffix(".tail")


def blobs(state_dir: Path) -> Path:
    """Return the folder of all blobs."""
    return state_dir / "blobs"


def blob(root: Path, name: str) -> Path:
    """Return where a blob is below the folder of all; `name` is the 64 hex digits of a digest."""
    return root / name[:SHARD] / name[SHARD:]


def work(state_dir: Path) -> Path:
    """Return the folder in which every run that goes on has one of its own."""
    return state_dir / "work"
