"""`rondel describe source`."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from controller.cli import describe_text as text
from controller.cli.common import Format, ago, find_source, now, short_revision, suspended_words
from controller.model import view
from controller.model.condition import (
    ORPHANED,
    Applied,
    SourceStatus,
    WorkflowStatus,
    find,
    source_health,
)
from controller.store.reader import Reader

LAST_EVENTS = 10
MOST_WORKFLOWS = 50  # of a source's inventory; JSON has all


def describe_source(store: Reader, name: str, output: Format) -> None:
    found, inventory = find_source(store, name), store.workflows(name)
    if text.machine(view.source_view(found, inventory), output):
        return
    moment = now()
    text.facts(source_facts(found))
    text.conditions(found.conditions, moment)
    tell_history(found.history, moment)
    tell_inventory(inventory)
    events = [one for one in store.events(source=name, limit=200) if not one.run]
    text.events(events[-LAST_EVENTS:], moment)


def source_facts(found: SourceStatus) -> list[tuple[str, str]]:
    return [
        ("Source", found.name),
        ("Kind", found.kind),
        ("Location", found.location),
        ("Ref", found.ref or "-"),
        ("Attempted", found.last_attempted_revision or "-"),
        ("Applied", found.last_applied_revision or "-"),
        ("Last success", text.since(found.last_success_at)),
        ("Generation", f"{found.generation} (observed {found.observed_generation})"),
        ("Workflows", str(found.workflows)),
        ("Suspended", suspended_words(found)),
        ("Sync", str(found.sync)),
        ("Health", str(source_health(found))),
    ]


def tell_history(history: Iterable[Applied], moment: datetime) -> None:
    text.table(
        "History",
        ("Revision", "Applied", "Workflows", "Faults", "Signed by"),
        [
            (
                short_revision(one.revision),
                f"{ago(one.at, moment)} ago",
                str(one.workflows),
                str(one.faults or ""),
                one.signer,
            )
            for one in history
        ],
    )


def tell_inventory(inventory: Sequence[WorkflowStatus]) -> None:
    rows = [
        (
            one.name,
            str(one.generation),
            str(one.sync) + (" (orphaned)" if find(one.conditions, ORPHANED) else ""),
            str(one.health),
            one.file,
        )
        for one in inventory[:MOST_WORKFLOWS]
    ]
    text.table("Inventory", ("Workflow", "Generation", "Sync", "Health", "File"), rows)
    if len(inventory) > len(rows):
        print(f"  and {len(inventory) - len(rows)} more: see `rondel get workflows --source`")
