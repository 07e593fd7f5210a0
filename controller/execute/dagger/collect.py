"""What a step left in its container, copied to this host."""

import asyncio
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from controller.execute.dagger.container import in_cache, place
from controller.execute.ports import AttemptRequest

if TYPE_CHECKING:
    import dagger


async def collect(done: "dagger.Container", request: AttemptRequest) -> Mapping[str, Path]:
    """Export what is wanted and there; nothing outside the container is reached."""
    places = {
        key: place(posixpath.join(request.workdir, path)) for key, path in request.collect.items()
    }
    targets = {
        key: request.staging / str(number)
        for number, key in enumerate(places)
        if not in_cache(places[key], request)
    }
    exported = await asyncio.gather(
        *(export(done, places[key], target) for key, target in targets.items())
    )
    return {key: targets[key] for key, there in zip(targets, exported, strict=True) if there}


async def export(done: "dagger.Container | dagger.Directory", path: str, target: Path) -> bool:
    """Write a file or folder of it to `target`; false when it isn't there."""
    import dagger  # noqa: PLC0415 - a second to import

    if await done.exists(path, expected_type=dagger.ExistsType.REGULAR_TYPE):
        await done.file(path).export(str(target))
        return True
    if await done.exists(path, expected_type=dagger.ExistsType.DIRECTORY_TYPE):
        await done.directory(path).export(str(target))
        return True
    return False
