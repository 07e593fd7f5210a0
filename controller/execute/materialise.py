"""Inputs on this host: written once, at the run's start, and compared with what was planned."""

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

from controller.execute.house import House
from controller.model.run import Run
from controller.model.workflow import Workflow


class Requeued(Exception):  # noqa: N818 - not an error: the run goes back to Pending
    """The run can't go on as planned and waits for another turn."""


async def materialise(
    house: House, run: Run, workflow: Workflow, folder: Path
) -> tuple[dict[str, str], dict[str, Path]]:
    """Write every input below `folder`; return their digests and places by name.

    Raises:
        StalledError: InputMissing, SourceGone.
        TransientError: SourceUnavailable.
    """
    digests, places = {}, {}
    for wanted in workflow.inputs:
        target = folder / "inputs" / wanted.name
        await asyncio.to_thread(clear, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        digests[wanted.name] = await house.inputs.materialise(
            run.source, run.revision, wanted, target
        )
        places[wanted.name] = target
    return digests, places


def moved_on(planned: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return the inputs that differ from the planned ones; none when nothing was planned."""
    return sorted(name for name in found if planned and planned.get(name) != found[name])


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
