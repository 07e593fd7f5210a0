"""`rondel explain`: of each step of a run, whether it ran, and why no kept result served it."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from controller import config as configuration
from controller import manifest
from controller.cli.common import (
    ConfigOption,
    Format,
    OutputOption,
    StateOption,
    find_run,
    print_json,
    print_yaml,
)
from controller.cli.slot import explain_slot
from controller.errors import TransientError
from controller.model.run import Phase, Run, StepRun
from controller.model.workflow import Input, Json, Workflow
from controller.reconcile import keys, step_key
from controller.source.objects import Objects
from controller.source.processes import GitError
from controller.store.reader import Reader

MOST_FILES = 5  # told of one mount

View = dict[str, Any]


def explain(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run's id or its beginning; a workflow with --at."),
    ],
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Why did it (not) start then?")
    ] = None,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Say of each step whether it ran, and why no kept result served it.

    With --at: why a workflow's slot started, or did not.

    Example: rondel explain report-1a2b3c4d5e
    """
    folder = configuration.find_state_dir(state_dir, config)
    if at is not None:
        with Reader.open(folder) as store:
            explain_slot(store, run, at, output)
        return
    with Reader.open(folder) as store:
        found = find_run(store, run)
        explainer = Explainer(store, folder, found)
        told = [explainer.step(one) for one in store.steps(found.id)]
    shown = {"id": found.id, "source": found.source, "workflow": found.workflow, "steps": told}
    if output is Format.JSON:
        print_json(shown)
    elif output is Format.YAML:
        print_yaml(shown)
    else:
        tell(told)


def tell(steps: list[View]) -> None:
    width = max((len(label(one)) for one in steps), default=0)
    for one in steps:
        first, *rest = one["words"]
        print(f"{label(one).ljust(width)}  {first}")
        for words in rest:
            print(f"{'':{width}}    {words}")


def label(step: View) -> str:
    values = ",".join(f"{name}={value}" for name, value in (step["matrix"] or {}).items())
    return f"{step['name']}[{values}]" if values else str(step["name"])


class Explainer:
    """Explains the steps of one run by what the store and the source's mirror hold."""

    def __init__(self, store: Reader, state_dir: Path, run: Run) -> None:
        self._store = store
        self._state_dir = state_dir
        self._run = run
        self._workflow: Workflow | None = manifest.workflow(run.spec) if run.spec else None

    def step(self, row: StepRun) -> View:
        """Return what became of a step, as the API has it and in words."""
        differs = [self._with_files(row, one) for one in row.cache.get("differs", ())]
        return {
            "name": row.name,
            "matrix": dict(row.matrix) if row.matrix is not None else None,
            "phase": str(row.phase),
            "answer": answer(row),
            "cache": {**row.cache, "differs": differs} if differs else dict(row.cache) or None,
            "words": words(row, differs),
        }

    def _with_files(self, row: StepRun, difference: step_key.Difference) -> View:
        """Return the difference, with the input and its files that make it where they are known."""
        wanted = self._input(row.name, str(difference["part"]))
        if wanted is None:
            return dict(difference)
        files = self._files(wanted, row.cache["nearest"])
        return {**difference, "input": wanted.name, "files": files or [wanted.path]}

    def _input(self, step: str, part: str) -> Input | None:
        """Return the input that a part of a step's key is the content of."""
        if self._workflow is None or not part.startswith("mount."):
            return None
        mounts = {f"mount.{one.path}": one.input for one in self._workflow.step(step).mounts}
        inputs = {one.name: one for one in self._workflow.inputs}
        return inputs.get(mounts.get(part) or "")

    def _files(self, wanted: Input, other: str) -> list[str]:
        """Return the files that differ from another run's; none where that can't be known.

        Only the mirror of a Git source still has what that run read.
        """
        then = self._store.run(other)
        if then is None or not (commit_of(then) and commit_of(self._run)):
            return []
        for mirror in self._mirrors():
            try:
                return asyncio.run(changed(mirror, wanted, commit_of(then), commit_of(self._run)))
            except (GitError, TransientError):
                continue  # it doesn't hold both commits
        return []

    def _mirrors(self) -> list[Path]:
        return sorted(self._state_dir.glob("mirrors/*/"))


def commit_of(run: Run) -> str:
    return run.revision.rpartition("@sha1:")[2] if "@sha1:" in run.revision else ""


async def changed(mirror: Path, wanted: Input, then: str, now: str) -> list[str]:
    """Return the files of an input, relative to the source, that differ between two commits."""
    objects = Objects(mirror)
    before, after = [keys.select((await objects.tree(one)).entries, wanted) for one in (then, now)]
    root = keys.normal(wanted.path)
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return ["/".join(part for part in (root, name) if part) for name in names]


def answer(row: StepRun) -> str:
    """Return how the step came to its result: LedgerHit, Ran, NotRun.

    The engine keeps to itself what its own cache has answered: such a step counts as run.
    """
    if row.cached:
        return "LedgerHit"
    return "Ran" if row.attempts else "NotRun"


def words(row: StepRun, differs: list[View]) -> list[str]:
    """Return what became of the step, a line each."""
    if row.cached:
        return [f"not run: {step_of(row.cache)}"]
    if not row.attempts:
        return [f"not run: {row.phase}" + (f", {row.reason}" if row.reason else "")]
    ended = "ran" if row.phase is Phase.SUCCEEDED else f"ran: {row.phase}"
    return [f"{ended}; {why(row)}", *map(difference_in_words, differs)]


def step_of(told: Mapping[str, Json]) -> str:
    return f"served by the result of run {told['run']}, step {told['step']}, of {told['madeAt']}"


def why(row: StepRun) -> str:
    """Return why no kept result served the step."""
    told = row.cache
    if not told:
        return "no results of it are kept (cache mode Off)"
    if told["result"] == "Fresh":
        return "the run was asked to compute anew"
    if "why" in told:
        return str(told["why"])
    if "nearest" not in told:
        return "there was no result yet"
    if not told["differs"]:
        return f"the result of run {told['nearest']} was gone"
    return f"it differs from run {told['nearest']} in:"


def difference_in_words(difference: View) -> str:
    files = difference.get("files", [])
    more = f" and {len(files) - MOST_FILES} more" if len(files) > MOST_FILES else ""
    where = f" ({', '.join(files[:MOST_FILES])}{more})" if files else ""
    return step_key.in_words(difference) + where
