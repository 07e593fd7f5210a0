"""Files of runs that a crash has left in the state directory, between an end and its tidying up."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from controller import ids, layout
from controller.execute.logs import mend
from controller.execute.materialise import clear
from controller.execute.run_ledger import RunLedger, forget
from controller.model.run import Attempt

ASIDE = "."  # no run's id has one


def found(state_dir: Path) -> set[str]:
    """Return the runs that have files here, whether they go on or not."""
    places = (layout.work(state_dir), layout.logs(state_dir))
    names = {path.name for place in places if place.is_dir() for path in place.iterdir()}
    return {name for name in names if ASIDE not in name}


def set_aside(state_dir: Path, runs: Iterable[str]) -> None:
    """Move the work of runs that nobody executes out of their way: at once, whatever its size."""
    for run in runs:
        place = layout.work(state_dir) / run
        if place.exists():
            place.rename(place.with_name(f"{run}{ASIDE}{ids.nonce()[:8]}"))


def clear_aside(state_dir: Path) -> None:
    """Remove what was set aside, also before an earlier crash."""
    for place in layout.work(state_dir).glob(f"*{ASIDE}*"):
        clear(place)


async def tidy_logs(
    state_dir: Path, ledger: RunLedger, run: str, attempts: Sequence[Attempt]
) -> None:
    """Remove the live logs of a run that has ended; one that was never sealed is sealed now."""
    seal_left(state_dir, ledger, attempts)
    await ledger.settled()
    await ledger.record()
    if not attempts:  # the run itself is no longer kept
        clear(layout.logs(state_dir) / run)
    drop_empty(state_dir, run)


def drop_empty(state_dir: Path, run: str) -> None:
    """Remove the folder of a run's live logs when nothing is in it."""
    with suppress(OSError):  # one that could not be sealed stays readable
        (layout.logs(state_dir) / run).rmdir()


def seal_left(state_dir: Path, ledger: RunLedger, attempts: Sequence[Attempt]) -> None:
    """Begin to seal the live logs that are left of these attempts; remove those that are."""
    for one in attempts:
        path = _segment(state_dir, one)
        if one.log is not None:
            forget(path)
        elif path.exists():
            dropped = mend(path)
            ledger.seal(path, one, truncated=dropped or not one.phase.terminal)


def _segment(state_dir: Path, attempt: Attempt) -> Path:
    return layout.segment(state_dir, attempt.run, attempt.step, attempt.index, attempt.number)
