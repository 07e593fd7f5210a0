"""`rondel check`: is everything there that a controller needs?"""

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from controller import config as configuration
from controller.cli.common import ConfigOption, Format, OutputOption, StateOption, now, print_json
from controller.cli.exit import Exit
from controller.errors import RondelError
from controller.model.settings import Settings

LEAST_FREE = 1 << 30  # bytes
FIRST_SANE_YEAR = 2024


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    ok: bool
    detail: str


def check(
    config: ConfigOption = None,
    executor: Annotated[str | None, typer.Option("--executor", help="dagger or local.")] = None,
    output: OutputOption = Format.TABLE,
    state_dir: StateOption = None,
) -> None:
    """Look whether everything a controller needs is there: configuration, engine, Git, store, disk.

    Example: rondel check --executor local
    """
    settings = configuration.load(configuration.locate(config, here=True), state=state_dir)
    settings = replace(settings, executor=executor or settings.executor)
    findings = list(look(settings))
    if output is Format.JSON:
        print_json([asdict(one) for one in findings])
    else:
        for one in findings:
            print(f"{'ok  ' if one.ok else 'FAIL'}  {one.name:<8} {one.detail}")
    if not all(one.ok for one in findings):
        raise typer.Exit(Exit.FAILED)


def look(settings: Settings) -> Iterator[Finding]:
    yield Finding("config", True, settings.file or "defaults")  # noqa: FBT003 - a row
    for name, probe in PROBES.items():
        try:
            yield Finding(name, True, probe(settings))  # noqa: FBT003 - a row
        except (RondelError, OSError) as error:
            yield Finding(name, False, str(error))  # noqa: FBT003 - a row


def probe_git(_: Settings) -> str:
    from controller.source.processes import git_path  # noqa: PLC0415 - each probe loads its own

    told = subprocess.run(
        [git_path(), "--version"], capture_output=True, text=True, check=True, timeout=10
    )
    return told.stdout.strip()


def probe_store(settings: Settings) -> str:
    from controller.clock import SystemClock  # noqa: PLC0415 - each probe loads its own
    from controller.store import Store  # noqa: PLC0415 - as above

    async def open_it() -> str:
        store = await Store.open(Path(settings.state_dir), clock=SystemClock(), kind="check")
        await store.close()
        return f"{settings.state_dir} can be written"

    return asyncio.run(open_it())


def probe_disk(settings: Settings) -> str:
    free = shutil.disk_usage(settings.state_dir).free
    if free < LEAST_FREE:
        raise OSError(f"{free >> 20} MiB free at {settings.state_dir}; make room for 1 GiB")
    return f"{free >> 30} GiB free"


def probe_clock(_: Settings) -> str:
    moment = now()
    if moment.year < FIRST_SANE_YEAR:
        raise OSError(f"the clock says {moment:%Y-%m-%d}; set it, schedules follow it")
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def probe_engine(settings: Settings) -> str:
    if settings.executor == "local":
        return "local: steps are processes of this host, isolated from nothing"
    from controller.execute.dagger import check as check_engine  # noqa: PLC0415 - imports the SDK

    versions = asyncio.run(check_engine(settings.dagger))
    return ", ".join(f"{name} {version}" for name, version in versions.items())


PROBES: dict[str, Callable[[Settings], str]] = {
    "git": probe_git,
    "store": probe_store,
    "disk": probe_disk,
    "clock": probe_clock,
    "engine": probe_engine,
}
