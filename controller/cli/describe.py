"""`rondel describe`: the story of one thing, for people."""

from collections.abc import Sequence
from typing import Annotated

import typer

from controller.cli import describe_text as text
from controller.cli.common import (
    ConfigOption,
    Format,
    OutputOption,
    StateOption,
    ago,
    brief,
    find_workflow,
    now,
    reader,
    short_revision,
    suspended_words,
    took,
)
from controller.cli.describe_run import describe_run
from controller.cli.describe_source import describe_source
from controller.errors import UsageError
from controller.model import view
from controller.model.condition import (
    WorkflowStatus,
)
from controller.model.run import Run
from controller.model.source import Declaration
from controller.model.workflow import OnChange
from controller.reconcile.upstream import key_of
from controller.store.reader import Reader

LAST_RUNS, LAST_EVENTS = 5, 10


def describe(
    kind: Annotated[str, typer.Argument(help="source, workflow or run")],
    name: Annotated[str, typer.Argument(help="Its name, or a run's id or the beginning of it.")],
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Tell the story of a source, a workflow or a run.

    Example: rondel describe workflow report
    """
    with reader(state_dir, config) as store:
        match kind.rstrip("s"):
            case "source":
                describe_source(store, name, output)
            case "workflow":
                describe_workflow(store, name, output)
            case "run":
                describe_run(store, name, output, config)
            case _:
                raise UsageError(f"there is no kind {kind!r}", remedy="use source, workflow, run")


def describe_workflow(store: Reader, name: str, output: Format) -> None:
    found = find_workflow(store, name)
    active = [
        one for one in store.planned() if (one.source, one.workflow) == (found.source, found.name)
    ]
    shown = view.workflow_view(found, active=len(active))
    if text.machine(shown, output):
        return
    moment = now()
    text.facts(workflow_facts(found, str(shown["health"])))
    text.conditions(found.conditions, moment)
    tell_triggers(store, found)
    tell_schedules(store, found)
    tell_runs(store.runs(source=found.source, workflow=found.name, limit=LAST_RUNS))
    events = store.events(source=found.source, workflow=found.name, limit=200)
    text.events([one for one in events if not one.step][-LAST_EVENTS:], moment)


def workflow_facts(found: WorkflowStatus, health: str) -> list[tuple[str, str]]:
    return [
        ("Workflow", f"{found.source}/{found.name}"),
        ("File", found.file or "-"),
        ("Revision", short_revision(found.revision) or "-"),
        ("Generation", f"{found.generation} (observed {found.observed_generation})"),
        ("Changes", str(found.change)),
        *((("Retired", "yes"),) if found.retired else ()),
        ("Suspended", suspended_words(found)),
        ("Sync", str(found.sync)),
        ("Health", health),
        ("Last success", text.since(found.last_success_at)),
        ("Last failure", text.since(found.last_failure_at)),
    ]


def tell_triggers(store: Reader, found: WorkflowStatus) -> None:
    """Tell what starts its runs, besides schedules."""
    from controller.cli.schedule import of_store  # noqa: PLC0415 - only for workflows

    name = f"{found.source}/{found.name}"
    declared = of_store(store, [name], suspended=True)
    text.lines("Triggers", [line for one in declared for line in trigger_words(store, one)])


def trigger_words(store: Reader, declared: Declaration) -> list[str]:
    """Return what starts it, and which of its upstreams aren't there."""
    return [
        *(f"a change of {changed_words(one)}" for one in [declared.on_change] if one),
        *(
            f"an end of {one.workflow} in {', '.join(one.phases)}"
            + ("" if is_there(store, key_of(declared.source, one)) else " (there is none)")
            for one in declared.upstreams
        ),
        *(f"a delivery to {one.receiver}" for one in declared.webhooks),
    ]


def is_there(store: Reader, key: tuple[str, str]) -> bool:
    found = store.workflow(*key)
    return found is not None and not found.retired


def changed_words(trigger: OnChange) -> str:
    told = {"the spec": trigger.spec, "the inputs": trigger.inputs}
    return " or ".join(name for name, asked in told.items() if asked)


def tell_schedules(store: Reader, found: WorkflowStatus) -> None:
    from controller.cli.schedule import upcoming  # noqa: PLC0415 - only for scheduled ones

    if not found.answered or found.retired:
        return
    moment = now()
    text.table(
        "Next",
        ("Time", "In", "Schedule", "Time zone"),
        [
            (
                one.starts.astimezone().strftime("%a %Y-%m-%d %H:%M:%S %Z"),
                brief(one.starts - moment),
                one.schedule.cron,
                one.schedule.time_zone,
            )
            for one in upcoming(store, f"{found.source}/{found.name}", after=moment)
        ],
    )


def tell_runs(runs: Sequence[Run]) -> None:
    moment = now()
    text.table(
        "Last runs",
        ("Run", "Phase", "Trigger", "Age", "Took", "Reason"),
        [
            (
                run.id,
                str(run.phase),
                str(run.trigger),
                ago(run.created_at, moment),
                took(run.started_at, run.finished_at, moment),
                run.reason,
            )
            for run in runs
        ],
    )
