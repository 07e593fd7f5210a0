"""Inputs on this host: written once, at the run's start, and compared with what was planned."""

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

import structlog

from controller.errors import RondelError, StalledError
from controller.execute.house import House
from controller.model.changes import KeepInput
from controller.model.run import Run
from controller.model.workflow import Input, Workflow

log = structlog.get_logger()


class Requeued(Exception):  # noqa: N818 - not an error: the run goes back to Pending
    """The run can't go on as planned and waits for another turn."""


async def materialise(
    house: House, run: Run, workflow: Workflow, folder: Path, *, again: bool
) -> tuple[dict[str, str], dict[str, Path]]:
    """Write every input below `folder`; return their digests and places by name.

    With `again` they are what the run had, from what was kept if its source has moved on.

    Raises:
        StalledError: InputMissing, InputGone, SourceGone.
        TransientError: SourceUnavailable.
    """
    digests, places = {}, {}
    for wanted in workflow.inputs:
        target = folder / "inputs" / wanted.name
        await asyncio.to_thread(clear, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        had = run.inputs.get(wanted.name) if again else None
        digests[wanted.name] = await one_input(house, run, wanted, target, had)
        places[wanted.name] = target
    return digests, places


async def one_input(house: House, run: Run, wanted: Input, target: Path, had: str | None) -> str:
    """Write one input; return its digest, which is `had` when that is given."""
    try:
        found = await house.inputs.materialise(run.source, run.revision, wanted, target)
    except StalledError:
        if had is None:
            raise
        found = ""
    if had is None or found == had:
        return found
    blob = (await house.kept.kept_inputs([had])).get(had) if house.kept else None
    if blob is None:
        raise StalledError(
            f"input {wanted.name!r} is not what it was, and was not kept",
            where=f"run {run.id}",
            reason="InputGone",
            remedy="run the workflow as it is now (rerun --latest)",
        )
    await asyncio.to_thread(clear, target)
    await house.blobs.restore(blob, target)
    return had


async def keep(house: House, run: Run, places: Mapping[str, Path]) -> None:
    """Keep the inputs of a source that has no past, beside the steps that work on copies of them.

    A disk that can't take them costs the rerun, not the run.
    """
    if not places or house.kept is None or house.inputs.lasting(run.source):
        return
    try:
        kept = await house.kept.kept_inputs(list(run.inputs.values()))
        for name, place in places.items():
            if run.inputs[name] not in kept:
                await keep_one(house, run.inputs[name], place)
    except (RondelError, OSError) as error:
        log.warning("input_not_kept", run=run.id, error=str(error))


async def keep_one(house: House, digest: str, place: Path) -> None:
    size = await asyncio.to_thread(size_of, place)
    if size > house.input_max_size:
        log.info("input_not_kept", size=size, limit=house.input_max_size)
        return
    blob = await house.blobs.put_path(place)
    now = house.clock.now()
    await house.ledger.record(KeepInput(digest=digest, blob=blob, size=size, at=now))


def size_of(place: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    files = [place] if place.is_file() else place.rglob("*")
    return sum(one.lstat().st_size for one in files if not one.is_dir())


def moved_on(planned: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return the inputs that differ from the planned ones; none when nothing was planned."""
    return sorted(name for name in found if planned and planned.get(name) != found[name])


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
