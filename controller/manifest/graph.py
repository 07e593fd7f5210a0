"""The graph of a workflow's steps: who comes before whom."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from controller.manifest.template import TemplateError, expressive, references, written
from controller.model.workflow import Step, Workflow

# The parts of a step whose strings may hold expressions; what they name comes before it.
EXPRESSIVE = (
    *("image", "args", "shell", "env", "workdir", "when", "inputs"),
    *("mounts", "outputs", "artifacts", "user", "caches", "services"),
    *("matrix", "module", "uses"),
)


@dataclass(frozen=True, slots=True)
class Graph:
    """The steps of one section. Both maps have an entry for every step, in manifest order."""

    needs: Mapping[str, tuple[str, ...]]
    dependents: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, steps: Iterable[Step]) -> "Graph":
        """Return the graph of `steps`; a need that is not among them is left out."""
        listed = tuple(steps)
        known = {step.name for step in listed}
        needs = {step.name: tuple(n for n in step.needs if n in known) for step in listed}
        dependents: dict[str, list[str]] = {step.name: [] for step in listed}
        for name, before in needs.items():
            for need in before:
                dependents[need].append(name)
        return cls(needs, {name: tuple(after) for name, after in dependents.items()})

    def order(self) -> tuple[str, ...]:
        """Return every name after all it needs, else in manifest order.

        Raises:
            CycleError: (graphlib) the needs go round; its second argument names the cycle.
        """
        return tuple(name for layer in self.layers() for name in layer)

    def layers(self) -> list[tuple[str, ...]]:
        """Return the names by depth: a layer needs only the ones before it."""
        position = {name: index for index, name in enumerate(self.needs)}
        sorter = TopologicalSorter(self.needs)
        sorter.prepare()
        layers = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=position.__getitem__)
            layers.append(tuple(ready))
            sorter.done(*ready)
        return layers


def order(workflow: Workflow) -> tuple[str, ...]:
    """Return the names of the workflow's steps, each after all it needs."""
    return Graph.of(workflow.steps).order()


def cycle(needs: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return the names of one cycle, the first again at the end; () when there is none."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return tuple(reversed(error.args[1]))
    return ()


def all_needs(
    step: Mapping[str, Any], known: Mapping[str, str], texts: Iterable[str]
) -> tuple[str, ...]:
    """Return the declared needs of a step, then those it implies, each once.

    Args:
        step: the step as its manifest writes it.
        known: names as expressions write them -> names of the steps of its section.
        texts: the step's strings that hold expressions.
    """
    declared: Sequence[str] = step.get("needs", ())
    return tuple(dict.fromkeys((*declared, *_named(texts, known), *_mounted(step, known))))


def texts(step: Mapping[str, Any]) -> Iterator[str]:
    """Yield the step's strings that hold expressions, where expressions are read."""
    for _, text in expressive({field: step[field] for field in EXPRESSIVE if field in step}):
        yield text


def _named(texts: Iterable[str], known: Mapping[str, str]) -> Iterator[str]:
    for text in texts:
        try:
            used = references(text)
        except TemplateError:
            continue  # a fault of its own
        for name in sorted(used):
            if name[0] == "steps" and len(name) > 1 and name[1] in known:
                yield known[name[1]]


def _mounted(step: Mapping[str, Any], known: Mapping[str, str]) -> Iterator[str]:
    for mount in step.get("mounts", ()):
        artifact = mount.get("artifact")
        if artifact is not None:
            name = artifact.partition(".")[0]
            if known.get(written(name)) == name:
                yield name
