"""What an author of manifests does without a daemon: validate, render, schema, graph, init."""

import json
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from controller import manifest
from controller.cli.common import ConfigOption, now
from controller.errors import UsageError
from controller.manifest import schema as schemas
from controller.manifest.origins import origins
from controller.manifest.rendered import as_written, rendered
from controller.manifests import below, manifests_of, workflow_of
from controller.model.source import Fault, ParsedFile
from controller.model.view import fault_view
from controller.model.workflow import Schedule
from controller.reconcile.odd_days import OddDay, odd_days


class ListFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class GraphFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    DOT = "dot"


Root = Annotated[
    Path | None, typer.Option("--root", help="Folder that paths of inputs start from.")
]
Chosen = Annotated[
    str | None, typer.Option("--workflow", help="Which workflow, when the file has several.")
]


def validate(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders.")],
    output: Annotated[ListFormat, typer.Option("--output", "-o")] = ListFormat.TEXT,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List ignored YAML.")] = False,
    root: Root = None,
    config: ConfigOption = None,
) -> None:
    """Check manifests: every fault at once, each with its place and a remedy.

    Example: rondel validate workflows/
    """
    parsed: dict[str, ParsedFile] = {}
    between: dict[Fault, None] = {}  # each once, also where paths overlap
    awaited: dict[Fault, None] = {}
    for path in paths:
        manifests = manifests_of(path, root, config)
        found = {str(file): manifests.parsed(file) for file in _files([path])}
        parsed |= found
        between |= dict.fromkeys(manifests.between(found))
        awaited |= dict.fromkeys(manifests.awaited(found))
    faults = [fault for one in parsed.values() for fault in one.all_faults]
    faults += [*manifest.duplicates(parsed), *between]
    if output is ListFormat.JSON:
        print(json.dumps([fault_view(one) for one in faults], indent=2, ensure_ascii=False))
    else:
        _tell(parsed, faults, verbose=verbose)
        for one in awaited:
            print(f"warning: {one}", file=sys.stderr)
    if faults:
        raise typer.Exit(2)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise UsageError("there is no such file or folder", where=str(path))
        for file in below(path) if path.is_dir() else (path,):
            if file not in seen:
                seen.add(file)
                yield file


def _tell(parsed: dict[str, ParsedFile], faults: list[Fault], *, verbose: bool) -> None:
    for fault in faults:
        print(fault)
    if verbose:
        for path, one in parsed.items():
            if one.ignored:
                print(f"{path}: {_count(one.ignored, 'document')} of other YAML ignored")
    if note := _unchecked(parsed):
        print(note)
    for warning in _warnings(parsed):
        print(warning, file=sys.stderr)
    print(_summary(parsed, faults))


def _summary(parsed: dict[str, ParsedFile], faults: list[Fault]) -> str:
    manifests = _count(sum(len(one.documents) for one in parsed.values()), "manifest")
    files = _count(len(parsed), "file")
    told = _count(len(faults), "fault") if faults else "no faults"
    return f"{manifests} in {files}: {told}"


def _unchecked(parsed: dict[str, ParsedFile]) -> str:
    """Names that only the operator's configuration defines are counted, not judged."""
    declarations = (doc.declaration for one in parsed.values() for doc in one.documents)
    found = [one for one in declarations if one is not None]
    secrets = {name for one in found for name in one.secrets}
    alerts = {name for one in found for name in one.alerts}
    receivers = {hook.receiver for one in found for hook in one.webhooks}
    nouns = ((secrets, "secret"), (alerts, "alert"), (receivers, "receiver"))
    counts = [_count(len(names), noun) for names, noun in nouns]
    told = " and ".join(count for count in counts if not count.startswith("0 "))
    return f"note: {told} for the configuration to define, not checked here" if told else ""


def _warnings(parsed: dict[str, ParsedFile]) -> Iterator[str]:
    """Tell of schedules that lose or repeat a day to daylight saving: odd, and no fault."""
    moment = now()
    for path, one in parsed.items():
        for document in one.documents:
            for schedule in document.declaration.schedules if document.declaration else ():
                if days := list(odd_days(schedule, moment)):
                    yield f"warning: {path}:{document.line}: {_odd(schedule, days)}"


def _odd(schedule: Schedule, days: Sequence[OddDay]) -> str:
    lost = ", ".join(str(one.day) for one in days if one.lost)
    twice = ", ".join(str(one.day) for one in days if not one.lost)
    told = [
        *([f"never runs on {lost}"] if lost else ()),
        *([f"runs everything twice on {twice}"] if twice else ()),
    ]
    return (
        f"{schedule.cron!r} in {schedule.time_zone} {' and '.join(told)}, when the clock changes;"
        " begin its minute and hour with a number, not `*`, or use UTC"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def render(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    workflow: Chosen = None,
    root: Root = None,
    config: ConfigOption = None,
) -> None:
    """Print a manifest as it will be used, and above it where each added value comes from.

    Example: rondel render workflows/report.yaml
    """
    from controller.cli.author_text import to_yaml  # noqa: PLC0415 - each command loads its own

    manifests = manifests_of(file, root, config)
    document = workflow_of(manifests, file, workflow)
    around = manifests.around.around(manifests.name(file), ())
    data = file.read_bytes()
    shown = rendered(data, document.document, around)
    above = manifests.around.above(manifests.name(file))
    for pointer, origin in origins(as_written(data, document.document), shown, above).items():
        print(f"# {pointer}: {origin}")
    print(to_yaml(shown), end="")


def schema(
    kind: Annotated[
        str, typer.Argument(metavar="[KIND]", help="Workflow, Agent, Defaults, Config, Dagger, ...")
    ] = "Workflow",
) -> None:
    """Print the JSON Schema of a kind, for editors.

    Example: rondel schema > workflow.schema.json
    """
    known = {one.lower(): one for one in schemas.SHIPPED}
    if kind.lower() not in known:
        raise UsageError(
            f"there is no schema of {kind!r}", remedy=f"use {', '.join(schemas.SHIPPED)}"
        )
    print(schemas.text(known[kind.lower()]), end="")


def graph(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    output: Annotated[GraphFormat, typer.Option("--output", "-o")] = GraphFormat.TEXT,
    workflow: Chosen = None,
    root: Root = None,
    config: ConfigOption = None,
) -> None:
    """Show which step waits for which, also where expressions and mounts imply it.

    Example: rondel graph workflows/report.yaml -o dot | dot -Tsvg
    """
    from controller.cli import author_text  # noqa: PLC0415 - each command loads its own

    document = workflow_of(manifests_of(file, root, config), file, workflow)
    found = manifest.workflow(document.body or "")
    if output is GraphFormat.JSON:
        print(json.dumps(author_text.graph_json(found), indent=2))
    elif output is GraphFormat.DOT:
        print(author_text.graph_dot(found))
    else:
        print(author_text.graph_text(found))


_CONFIGURATION = """\
# What `rondel serve` reads in this folder. Every key: `rondel schema config`
executor: local       # steps are processes of this host; `dagger` runs them in containers
sources:
  - {name: hello, kind: Directory, path: ./workflows}
"""

_HELLO = """\
# Every field: docs/reference/workflow.md, or `rondel schema`
apiVersion: rondel/v1alpha1
kind: Workflow
metadata:
  name: hello
  description: Says hello when this file changes, and every hour.
spec:
  params:
    - {name: who, default: world}
  schedules:
    - {name: hourly, cron: "0 * * * *"}
  triggers:
    - onChange: [spec]
  steps:
    - name: greet
      image: alpine:3
      env: {WHO: "${{ params.who }}"}
      script: |
        echo "Hello, $WHO!" | tee greeting.txt
      outputs:
        greeting: {path: greeting.txt}
    - name: repeat
      image: alpine:3
      env: {GREETING: "${{ steps.greet.outputs.greeting }}"}
      script: echo "It said - $GREETING"
"""


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]")] = Path(),
) -> None:
    """Write a small configuration and a first workflow.

    Example: rondel init try && cd try && rondel serve --executor local
    """
    files = {
        folder / "rondel.yaml": _CONFIGURATION,
        folder / "workflows" / "hello.yaml": _HELLO,
    }
    if taken := [path for path in files if path.exists()]:
        remedy = "choose an empty folder, or remove it"
        raise UsageError("it exists already", where=str(taken[0]), remedy=remedy)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    print(f"next: cd {folder} && rondel serve --executor local")
