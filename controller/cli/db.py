"""`rondel db`: the store as a whole."""

from pathlib import Path
from typing import Annotated

import typer

from controller import config as configuration
from controller.cli.common import ConfigOption, StateOption, now
from controller.cli.exit import Exit
from controller.errors import UnreachableError
from controller.store import ServeLock
from controller.store.backup import Backup, faults, schema_of
from controller.store.backup import backup as back_up
from controller.store.backup import restore as put_back
from controller.store.schema import HEAD, prepare

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A tar file.")]


def db() -> None:
    """Look after the store: back it up, put it back, look through it, bring it up to date.

    Example: rondel db backup rondel-2027-03-01.tar
    """


def backup(file: FileArgument, config: ConfigOption = None, state_dir: StateOption = None) -> None:
    """Write the database and all that it names to one file, also beside a running controller.

    Example: rondel db backup rondel-2027-03-01.tar
    """
    tell(f"{file}: ", back_up(configuration.find_state_dir(state_dir, config), file))


def restore(
    file: FileArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Move a store that is there aside.")
    ] = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Put a backup in the place of the store; no controller may run there.

    Example: rondel db restore rondel-2027-03-01.tar --state-dir ./state
    """
    if not file.is_file():
        raise UnreachableError("there is no such file", where=str(file))
    place = state_of(state_dir, config)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = place / f"before-restore-{now():%Y%m%dT%H%M%SZ}" if force else None
    with ServeLock(place):
        made = put_back(file, place, aside=aside)
    tell(f"{place}: ", made)
    if aside is not None and aside.exists():
        print(f"what was there lies in {aside}")


def verify(config: ConfigOption = None, state_dir: StateOption = None) -> None:
    """Look through the database and every blob that it names; exit 1 when something is wrong.

    Example: rondel db verify
    """
    place = configuration.find_state_dir(state_dir, config)
    found = list(faults(place))
    for one in found:
        print(one)
    print(f"{place}: {len(found) or 'no'} fault{'' if len(found) == 1 else 's'}")
    if found:
        raise typer.Exit(Exit.FAILED)


def upgrade(
    no_backup: Annotated[
        bool, typer.Option("--no-backup", help="Without a backup beside it first.")
    ] = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Bring an older store up to date, after a backup beside it; no controller may run there.

    A controller does the same by itself when it starts.

    Example: rondel db upgrade
    """
    place = configuration.find_state_dir(state_dir, config)
    with ServeLock(place):
        found = schema_of(place)
        if found == HEAD:
            print(f"{place}: nothing to do, its schema is {HEAD}")
            return
        if not no_backup:
            print(f"{place}: a copy lies in {copied(place, found)}")
        prepare(place / "rondel.db")
    print(f"{place}: upgraded from schema {found} to {HEAD}")


def copied(place: Path, schema: str | None) -> Path:
    """Copy the database alone: blobs are never changed, only added and dropped."""
    from controller.store.backup import copy  # noqa: PLC0415 - only before an upgrade

    return copy(place / "rondel.db", place / f"rondel-{schema}-{now():%Y%m%dT%H%M%SZ}.db")


def state_of(state_dir: Path | None, config: Path | None) -> Path:
    """Return the state directory, which need not hold a store yet."""
    file = configuration.locate(config)
    configured = configuration.read("Config", file).get("stateDir") if file else None
    base = file.resolve().parent if file else Path.cwd()
    return configuration.state_dir(state_dir, configured, base)


def tell(place: str, made: Backup) -> None:
    print(f"{place}{made.runs} runs, {made.blobs} blobs")
    if made.missing:
        print(f"{len(made.missing)} blobs were not there: {', '.join(made.missing[:3])}")
