"""`rondel check`: is everything there that a controller needs?"""

import asyncio
import re
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
from controller.model.settings import GitSource, Settings

LEAST_FREE = 1 << 30  # bytes
FIRST_SANE_YEAR = 2024
LEAST_GIT = (2, 31)  # logins are given as GIT_CONFIG_COUNT


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
            detail = probe(settings)
            if detail is not None:
                yield Finding(name, True, detail)  # noqa: FBT003 - a row
        except (RondelError, OSError) as error:
            yield Finding(name, False, str(error))  # noqa: FBT003 - a row


def probe_git(_: Settings) -> str:
    from controller.source.processes import git_path  # noqa: PLC0415 - each probe loads its own

    told = subprocess.run(
        [git_path(), "--version"], capture_output=True, text=True, check=True, timeout=10
    )
    return judged_git(told.stdout.strip())


def judged_git(told: str) -> str:
    """Return what git says of its version. Raises OSError when it is too old."""
    found = re.search(r"(\d+)\.(\d+)", told)
    if found is None or (int(found[1]), int(found[2])) < LEAST_GIT:
        least = ".".join(map(str, LEAST_GIT))
        raise OSError(f"{told} is too old: logins need {least}; install a newer one")
    return told


def probe_ssh(settings: Settings) -> str | None:
    """Look for what fetches by ssh; None where no source does."""
    sources = [one for one in settings.sources if isinstance(one, GitSource) and by_ssh(one)]
    if not sources:
        return None
    path = shutil.which("ssh")
    if path is None:
        raise missing("ssh", "OpenSSH's client", [one.name for one in sources], "fetches by ssh")
    return path


def by_ssh(source: GitSource) -> bool:
    from controller.source.remote import scheme  # noqa: PLC0415 - each probe loads its own

    return scheme(source.url) == "ssh"


def probe_signatures(settings: Settings) -> str | None:
    """Look for what checks signatures, and read the keys; None where no source asks for them.

    Raises:
        RondelError: a program isn't there, or a file of keys can't be read.
    """
    from controller.source.allowed import read_keys  # noqa: PLC0415 - each probe loads its own
    from controller.source.programs import PACKAGES  # noqa: PLC0415 - as above

    wanted: dict[str, list[str]] = {}
    for one in settings.sources:
        if isinstance(one, GitSource) and one.verify is not None:
            allowed = read_keys(one.verify.keys)
            needed = {"gpg": bool(allowed.gpg), "ssh-keygen": bool(allowed.signers)}
            for program in (name for name, is_needed in needed.items() if is_needed):
                wanted.setdefault(program, []).append(one.name)
    for program, sources in wanted.items():
        if shutil.which(program) is None:
            raise missing(program, PACKAGES[program], sources, "verifies by it")
    return ", ".join(sorted(wanted)) or None


def missing(program: str, package: str, sources: list[str], what: str) -> OSError:
    named = f"source {', '.join(sources)} {what}"
    return OSError(f"{program} is not installed, and {named}; install {package}")


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


PROBES: dict[str, Callable[[Settings], str | None]] = {
    "git": probe_git,
    "ssh": probe_ssh,
    "verify": probe_signatures,
    "store": probe_store,
    "disk": probe_disk,
    "clock": probe_clock,
    "engine": probe_engine,
}
