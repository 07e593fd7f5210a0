"""YAML that our own reader takes back as it was, and graphs as text and dot."""

from collections.abc import Iterator
from typing import Any

import yaml

from controller.manifest.graph import Graph
from controller.manifest.scalar import ScalarError, resolve
from controller.model.workflow import Step, Workflow


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.2 would read as another value; writes scripts as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - the base's signature
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - as above
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if "\n" in text:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
    style = None if _plain(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _plain(text: str) -> bool:
    try:
        return isinstance(resolve(text), str)
    except ScalarError:
        return False


_Dumper.add_representer(str, _text)


def to_yaml(value: Any) -> str:
    """Return a JSON value as YAML text; our reader reads it back equal."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, indent=2
    )
    return text


def sections(workflow: Workflow) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """Yield each section that has steps, by its name in the manifest."""
    for name, steps in (
        ("steps", workflow.steps),
        ("onSuccess", workflow.on_success),
        ("onFailure", workflow.on_failure),
        ("onCancel", workflow.on_cancel),
        ("finally", workflow.finally_),
    ):
        if steps:
            yield name, steps


def graph_text(workflow: Workflow) -> str:
    """Return the steps by layer, each with what it waits for."""
    lines = [workflow.name]
    for section, steps in sections(workflow):
        graph = Graph.of(steps)
        lines.append(f"  {section}")
        for number, layer in enumerate(graph.layers(), start=1):
            lines += [f"  {number:>4}  {_node(graph, name)}" for name in layer]
    return "\n".join(lines)


def _node(graph: Graph, name: str) -> str:
    before = ", ".join(graph.needs[name])
    return f"{name}  <- {before}" if before else name


def graph_dot(workflow: Workflow) -> str:
    """Return the steps as a Graphviz digraph, a cluster for each section."""
    lines = [f'digraph "{workflow.name}" {{', "  rankdir=LR;", "  node [shape=box];"]
    for section, steps in sections(workflow):
        graph = Graph.of(steps)
        lines.append(f'  subgraph "cluster_{section}" {{ label="{section}";')
        lines += [f'    "{name}";' for name in graph.needs]
        lines += [
            f'    "{need}" -> "{name}";' for name in graph.needs for need in graph.needs[name]
        ]
        lines.append("  }")
    return "\n".join([*lines, "}"])


def graph_json(workflow: Workflow) -> dict[str, Any]:
    """Return `{"workflow", "steps": [{"name", "section", "layer", "needs"}]}`; layers from 1."""
    nodes = []
    for section, steps in sections(workflow):
        graph = Graph.of(steps)
        for number, layer in enumerate(graph.layers(), start=1):
            for name in layer:
                needs = list(graph.needs[name])
                nodes.append({"name": name, "section": section, "layer": number, "needs": needs})
    return {"workflow": workflow.name, "steps": nodes}
