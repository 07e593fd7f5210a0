"""`rondel describe`: the story of one thing, for people."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.common import (
    ConfigOption,
    Format,
    OutputOption,
    StateOption,
    ago,
    brief,
    find_run,
    find_workflow,
    now,
    print_json,
    print_yaml,
    reader,
    short_revision,
    suspended_words,
    took,
)
from controller.errors import UsageError
from controller.model import view
from controller.model.cause import words
from controller.model.condition import Condition, SourceStatus, WorkflowStatus
from controller.model.run import Event, Phase, Run, StepRun
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


def machine(shown: view.View, output: Format) -> bool:
    """Print for machines; false when people are asked for."""
    if output is Format.JSON:
        print_json(shown)
    elif output is Format.YAML:
        print_yaml(shown)
    return output in {Format.JSON, Format.YAML}


def describe_source(store: Reader, name: str, output: Format) -> None:
    found = next((one for one in store.sources() if one.name == name), None)
    if found is None:
        raise UsageError(f"there is no source {name!r}", remedy="see `rondel get sources`")
    if machine(view.source_view(found), output):
        return
    facts(source_facts(found))
    tell_conditions(found.conditions)
    tell_events(store.events(source=name, limit=LAST_EVENTS))


def source_facts(found: SourceStatus) -> list[tuple[str, str]]:
    return [
        ("Source", found.name),
        ("Kind", found.kind),
        ("Location", found.location),
        ("Ref", found.ref or "-"),
        ("Attempted", found.last_attempted_revision or "-"),
        ("Applied", found.last_applied_revision or "-"),
        ("Applied at", since(found.last_success_at)),
        ("Workflows", str(found.workflows)),
        ("Suspended", suspended_words(found)),
        ("Sync", str(found.sync)),
        ("Health", str(found.health)),
    ]


def describe_workflow(store: Reader, name: str, output: Format) -> None:
    found = find_workflow(store, name)
    active = [
        one for one in store.planned() if (one.source, one.workflow) == (found.source, found.name)
    ]
    shown = view.workflow_view(found, active=len(active))
    if machine(shown, output):
        return
    facts(workflow_facts(found, str(shown["health"])))
    tell_conditions(found.conditions)
    tell_triggers(store, found)
    tell_schedules(store, found)
    tell_runs(store.runs(source=found.source, workflow=found.name, limit=LAST_RUNS))
    events = store.events(source=found.source, workflow=found.name, limit=200)
    tell_events([one for one in events if not one.step][-LAST_EVENTS:])


def workflow_facts(found: WorkflowStatus, health: str) -> list[tuple[str, str]]:
    moment = now()
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
        ("Last success", ago(found.last_success_at, moment)),
        ("Last failure", ago(found.last_failure_at, moment)),
    ]


def since(moment: datetime | None) -> str:
    return f"{ago(moment, now())} ago" if moment else "never"


def tell_triggers(store: Reader, found: WorkflowStatus) -> None:
    """Tell what starts its runs, besides schedules."""
    from controller.cli.schedule import of_store  # noqa: PLC0415 - only for workflows

    name = f"{found.source}/{found.name}"
    declared = of_store(store, [name], suspended=True)
    lines = [line for one in declared for line in trigger_words(store, one)]
    if lines:
        title("Triggers")
    for line in lines:
        print(f"  {line}")


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
    coming = upcoming(store, f"{found.source}/{found.name}", after=moment)
    if coming:
        title("Next")
    for one in coming:
        local = one.starts.astimezone().strftime("%a %Y-%m-%d %H:%M:%S %Z")
        wait = brief(one.starts - moment)
        print(f"  {local}  in {wait}  {one.schedule.cron}  ({one.schedule.time_zone})")


def describe_run(store: Reader, name: str, output: Format, config: Path | None) -> None:
    run = find_run(store, name)
    steps = store.steps(run.id)
    if machine(view.run_view(run, steps), output):
        return
    facts(run_facts(run))
    if run.phase is Phase.PENDING:
        from controller.cli.waiting import why_waiting  # noqa: PLC0415 - only for those that wait

        print(f"  Waiting       {why_waiting(store, run, config)}")
    tell_steps(steps)
    tell_called(store.called(run.id))
    labels = {(one.name, one.index): one.label for one in steps}
    tell_events(store.events(run=run.id, limit=LAST_EVENTS * 3), labels)
    if run.phase.bad:
        print(f"\nIts log: rondel logs {run.id}")


def run_facts(run: Run) -> list[tuple[str, str]]:
    moment = now()
    params = ", ".join(f"{key}={value}" for key, value in run.params.items())
    told = f"{run.reason}: {run.message}" if run.message else run.reason
    return [
        ("Run", run.id),
        ("Workflow", f"{run.source}/{run.workflow}"),
        ("Phase", str(run.phase) + (f" ({told})" if told else "")),
        ("Trigger", words(run)),
        *((("Slot", view.time(run.scheduled_time) or "-"),) if run.scheduled_time else ()),
        *((("Step of", run.parent),) if run.parent else ()),
        ("Revision", run.revision or "-"),
        ("Params", params or "-"),
        ("Executor", run.executor or "-"),
        ("Created", f"{view.time(run.created_at)} ({ago(run.created_at, moment)} ago)"),
        ("Started", view.time(run.started_at) or "-"),
        ("Took", took(run.started_at, run.finished_at, moment)),
        *((f"Input {name}", digest) for name, digest in run.inputs.items()),
        *((name, text) for name, text in run.versions.items()),
        *((f"Output {name}", str(value)) for name, value in run.outputs.items()),
    ]


def tell_steps(steps: Sequence[StepRun]) -> None:
    if not steps:
        return
    title("Steps")
    moment = now()
    width = max(len(step.label) for step in steps)
    for step in steps:
        tried = f"{step.attempts} attempts" if step.attempts > 1 else ""
        span = took(step.started_at, step.finished_at, moment)
        words = step.reason + (f": {step.error}" if step.error else "")
        where = "" if str(step.section) == "steps" else f"[{step.section}]"
        line = f"  {step.label.ljust(width)}  {step.phase!s:<11} {span:>6}  {tried} {where} {words}"
        print(line.rstrip())
        for name, value in step.outputs.items():
            print(f"  {'':{width}}  output {name} = {str(value)[:100]}")
        for name, digest in step.artifacts.items():
            print(f"  {'':{width}}  artifact {name} {digest}")


def tell_called(runs: Sequence[Run]) -> None:
    """Tell of the runs that are steps of the run: one for each attempt."""
    if runs:
        title("Called")
    moment = now()
    for run in runs:
        span = took(run.started_at, run.finished_at, moment)
        print(f"  {run.id}  {run.phase!s:<11} {span:>6}  {called_as(run)}  {run.reason}".rstrip())


def called_as(run: Run) -> str:
    """Return the step that a called run is, as `step.index.attempt`."""
    return run.identity.rpartition(":")[2]


def tell_conditions(conditions: Iterable[Condition]) -> None:
    found = list(conditions)
    if found:
        title("Conditions")
    moment = now()
    for one in found:
        age = ago(one.last_transition_time, moment)
        print(f"  {one.type:<14} {one.status!s:<8} {one.reason:<18} for {age}")
        for line in one.message.split(" | ") if one.message else ():
            print(f"      {line}")


def tell_runs(runs: Sequence[Run]) -> None:
    if runs:
        title("Last runs")
    moment = now()
    for run in runs:
        span = took(run.started_at, run.finished_at, moment)
        age = ago(run.created_at, moment)
        told = f"{run.phase!s:<11} {run.trigger!s:<9} {age:>5} ago  {span:>6}"
        print(f"  {run.id}  {told}  {run.reason}".rstrip())


def tell_events(
    events: Sequence[Event], labels: Mapping[tuple[str, int], str] | None = None
) -> None:
    if events:
        title("Events")
    for one in events:
        label = (labels or {}).get((one.step, one.data.get("index", 0)), one.step)
        about = label or one.run
        print(f"  {view.time(one.at)}  {one.reason:<18} {about}  {one.message}".rstrip())


def title(text: str) -> None:
    print(f"\n{text}")


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    for name, text in pairs:
        print(f"  {name:<13} {text}")
