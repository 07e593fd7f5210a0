"""`rondel schedule`: the slots to come, of files or of what is loaded."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from itertools import islice, takewhile
from pathlib import Path
from typing import Annotated

import typer

from controller import manifest
from controller.cli.common import (
    ConfigOption,
    Format,
    OutputOption,
    StateOption,
    find_workflow,
    now,
    print_table,
    print_yaml,
    read_duration,
    reader,
    suspended_words,
)
from controller.errors import UsageError
from controller.manifests import below, manifests_of
from controller.model import view
from controller.model.source import Declaration
from controller.model.workflow import Schedule
from controller.reconcile.clock_notes import note
from controller.reconcile.schedule import jitter, slots
from controller.store.reader import Reader

MOST = 1000


@dataclass(frozen=True, slots=True, order=True)
class Coming:
    """One slot to come."""

    slot: datetime
    source: str
    workflow: str
    schedule: Schedule = None  # type: ignore[assignment]  # always given; ordered by the rest

    @property
    def starts(self) -> datetime:
        return self.slot + jitter(self.source, self.workflow, self.schedule, self.slot)


def schedule(  # noqa: PLR0917 - options of one command
    names: Annotated[list[str] | None, typer.Argument(metavar="[FILE-OR-WORKFLOW]...")] = None,
    span: Annotated[str, typer.Option("--next", help="How far to look.")] = "24h",
    after: Annotated[str | None, typer.Option("--after", help="Slots after this time.")] = None,
    count: Annotated[int | None, typer.Option("--count", help="At most so many.")] = None,
    output: OutputOption = Format.TABLE,
    root: Annotated[
        Path | None, typer.Option("--root", help="Folder that inputs start from.")
    ] = None,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """List the slots to come, of files or of loaded workflows.

    Example: rondel schedule nightly.yaml --after 2027-03-27T00:00:00Z --count 5
    """
    begin = read_time(after) if after else now()
    until = begin + read_duration(span, "--next") if not (after and count) else None
    declared, still = meant(names or [], root, config, state_dir)
    coming = slots_of(declared, begin)
    if until is not None:
        coming = takewhile(lambda one: one.slot <= until, coming)
    found = list(islice(coming, min(count or MOST, MOST)))
    tell(found, output)
    if still:
        print(f"suspended, no slot starts: {', '.join(still)}", file=sys.stderr)


def tell(found: list[Coming], output: Format) -> None:
    views = [
        {
            **view.slot_view(
                one.workflow, one.schedule.cron, one.schedule.time_zone, (one.slot, one.starts)
            ),
            "source": one.source,
            "schedule": one.schedule.identity,
            "note": note(one.schedule, one.slot) or None,
        }
        for one in found
    ]
    if output is Format.JSON:
        print(json.dumps(views, indent=2))
    elif output is Format.YAML:
        print_yaml(views)
    elif not found:
        print("no slot in this time")
    else:
        rows = [
            (
                str(shown["time"]),
                one.starts.astimezone().strftime("%a %H:%M:%S %Z"),
                one.workflow,
                one.schedule.cron,
                one.schedule.time_zone,
            )
            for one, shown in zip(found, views, strict=True)
        ]
        print_table(("time", "starts (local)", "workflow", "cron", "time zone"), rows)
        for shown in views:
            if shown["note"]:
                print(f"{shown['time']} {shown['workflow']}: {shown['note']}")


def suspended(store: Reader, names: list[str]) -> list[str]:
    """Return those of the loaded workflows that are meant and suspended, with who does that."""
    found = [find_workflow(store, name) for name in names] or store.workflows()
    return [
        f"{one.source}/{one.name} ({suspended_words(one)})"
        for one in found
        if one.suspended and not one.retired
    ]


def read_time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no time", remedy="write 2027-03-27T00:00:00Z") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def meant(
    names: list[str], root: Path | None, config: Path | None, state: Path | None
) -> tuple[list[Declaration], list[str]]:
    """Return what the files and the loaded workflows of these names declare, and the suspended.

    One look at the store: the two fit together.
    """
    files = [name for name in names if Path(name).exists()]
    loaded = [name for name in names if name not in files]
    declared = [one for name in files for one in of_path(Path(name), root, config)]
    if names and not loaded:
        return declared, []
    with reader(state, config) as store, store.snapshot():
        return [*declared, *of_store(store, loaded)], suspended(store, loaded)


def of_path(path: Path, root: Path | None, config: Path | None) -> Iterator[Declaration]:
    manifests = manifests_of(path, root, config)
    for file in below(path) if path.is_dir() else [path]:
        parsed = manifests.parsed(file)
        if faults := parsed.all_faults:
            raise UsageError("\n".join(map(str, faults)))
        yield from (one.declaration for one in parsed.documents if one.declaration)


def of_store(store: Reader, names: list[str], *, suspended: bool = False) -> Iterator[Declaration]:
    """Yield what is loaded; `suspended` adds those of which no slot starts."""
    found = [find_workflow(store, name) for name in names] if names else store.workflows()
    index = store.parsed({one.blob for one in found if one.blob}, manifest.READER_VERSION)
    for one in found:
        if one.blob in index and not one.retired:
            parsed = manifest.decode(
                index[one.blob], source=one.source, path=one.file, blob=one.blob
            )
            yield from (
                document.declaration
                for document in parsed.documents
                if document.declaration
                and document.name == one.name
                and (suspended or not one.suspended)
            )


def slots_of(declared: Iterable[Declaration], after: datetime) -> Iterator[Coming]:
    """Yield the slots of all schedules in order."""
    return merge(
        *(series(one, schedule, after) for one in declared for schedule in one.schedules),
        key=lambda coming: (coming.slot, coming.source, coming.workflow),
    )


def series(declared: Declaration, schedule: Schedule, after: datetime) -> Iterator[Coming]:
    for slot in slots(schedule, after):
        yield Coming(slot, declared.source, declared.name, schedule)


def upcoming(store: Reader, name: str | None, *, after: datetime) -> list[Coming]:
    """Return the next slot of every schedule that is loaded."""
    declared = of_store(store, [name] if name else [])
    nexts = (
        next(series(one, schedule, after), None) for one in declared for schedule in one.schedules
    )
    return sorted(
        (one for one in nexts if one is not None),
        key=lambda coming: (coming.slot, coming.source, coming.workflow),
    )
