"""`rondel describe run`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from controller.cli import describe_text as text
from controller.cli.common import Format, ago, find_run, now, took
from controller.model import view
from controller.model.cause import words
from controller.model.run import Phase, Run, Section, StepRun
from controller.store.reader import Reader

LAST_EVENTS = 30


def describe_run(store: Reader, name: str, output: Format, config: Path | None) -> None:
    run = find_run(store, name)
    steps = store.steps(run.id)
    if text.machine(view.run_view(run, steps), output):
        return
    text.facts([*run_facts(run), *waiting(store, run, config)])
    tell_steps(steps)
    tell_called(store.called(run.id))
    labels = {(one.name, one.index): one.label for one in steps}
    text.events(store.events(run=run.id, limit=LAST_EVENTS), now(), labels)
    if run.phase.bad:
        print(f"\nIts log: rondel logs {run.id}")


def waiting(store: Reader, run: Run, config: Path | None) -> list[tuple[str, str]]:
    """Return what a run that hasn't begun waits for."""
    if run.phase is not Phase.PENDING:
        return []
    from controller.cli.waiting import why_waiting  # noqa: PLC0415 - only for those that wait

    return [("Waiting", why_waiting(store, run, config))]


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
        *run.versions.items(),
        *((f"Output {name}", str(value)) for name, value in run.outputs.items()),
    ]


def tell_steps(steps: Sequence[StepRun]) -> None:
    moment = now()
    text.table(
        "Steps",
        ("Name", "Section", "Phase", "Took", "Attempts", "Reason"),
        [
            (
                step.label,
                "" if step.section is Section.STEPS else str(step.section),
                str(step.phase),
                took(step.started_at, step.finished_at, moment),
                str(step.attempts) if step.attempts > 1 else "",
                "\n".join(filter(None, (why(step), *left(step)))),
            )
            for step in steps
        ],
    )


def why(step: StepRun) -> str:
    return step.reason + (f": {step.error}" if step.error else "")


def left(step: StepRun) -> Iterator[str]:
    """Yield what a step has left for others."""
    yield from (f"output {name} = {str(value)[:100]}" for name, value in step.outputs.items())
    yield from (f"artifact {name} {digest}" for name, digest in step.artifacts.items())


def tell_called(runs: Sequence[Run]) -> None:
    """Tell of the runs that are steps of the run: one for each attempt."""
    moment = now()
    text.table(
        "Called",
        ("Run", "Phase", "Took", "As", "Reason"),
        [
            (
                run.id,
                str(run.phase),
                took(run.started_at, run.finished_at, moment),
                called_as(run),
                run.reason,
            )
            for run in runs
        ],
    )


def called_as(run: Run) -> str:
    """Return the step that a called run is, as `step.index.attempt`."""
    return run.identity.rpartition(":")[2]
