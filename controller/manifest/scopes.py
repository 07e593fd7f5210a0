"""Checks of expressions: each stands where it is read, uses known names, and has a fitting type."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from controller.manifest import axes, expression, raw
from controller.manifest.finding import Finding, Path
from controller.manifest.graph import EXPRESSIVE
from controller.manifest.names import nearest, usable
from controller.manifest.template import (
    Name,
    Piece,
    TemplateError,
    names,
    references,
    split,
    written,
)

Types = dict[Name, str]
Outputs = Mapping[str, tuple[str, ...]]
NOTHING_CALLED: Outputs = {}
_RUN: Types = {
    **{("run", name): "string" for name in ("id", "trigger", "source", "revision", "date")},
    ("run", "scheduledTime"): "timestamp",
    ("run", "fresh"): "boolean",
    ("workflow", "name"): "string",
    ("workflow", "labels"): "labels",
}
_UPSTREAM: Types = {
    **{("upstream", name): "string" for name in ("run", "phase", "revision")},
    ("upstream", "scheduledTime"): "timestamp",
}
_HOOKS = frozenset({"onSuccess", "onFailure", "onCancel", "finally"})
_SECTIONS = _HOOKS | {"steps"}
_READ_BELOW = {"module": "args", "uses": "params"}
_ANY_RESULT = ("outputs", "artifacts")
_FREE_TEXT = frozenset({"description", "enum"})
_PARTS = {
    "steps": "steps.NAME.phase, .exitCode, .outputs.NAME or .artifacts.NAME",
    "inputs": "inputs.NAME.digest",
    "params": "params.NAME",
    "run": "run.id, run.date, run.trigger, ...",
    "matrix": "matrix.NAME",
    "upstream": "upstream.run, .phase, .outputs.NAME, .scheduledTime or .revision",
    "workflow": "workflow.name or workflow.labels",
}


class World:
    """The names that expressions of one document can use, by place; made when first asked for."""

    def __init__(self, spec: dict[str, Any], called: Outputs) -> None:
        self.spec = spec
        self._called = called
        self._made: dict[str, Types] = {}
        self.fine: set[tuple[int, str]] = set()  # (id of the types, expression)
        self._of_matrices: dict[tuple[str, int], Types] = {}

    def at(self, path: Path) -> Types | None:
        """Return names and types for an expression at `path` of the spec; None: none is read."""
        match path:
            case ("when",) | ("outputs", _):
                return self.types("when" if path == ("when",) else "steps")
            case ("triggers", int(index), "params", _, *_):
                return _UPSTREAM if "workflow" in self.spec["triggers"][index] else None
            case ("params", _, "default", *_):
                return _RUN
            case ("defaults", str(field), *rest) if _read(field, rest):
                return self.types("defaults")
            case (str(section), int(index), str(field), *rest) if section in _SECTIONS:
                return self._of_step(section, index, field) if _read(field, rest) else None
        return None

    def _of_step(self, section: str, index: int, field: str) -> Types:
        """Only steps with a matrix see it, and not where they say what it is."""
        matrix = self.spec[section][index].get("matrix")
        if field == "matrix" or not isinstance(matrix, dict):
            return self.types(section)
        if (section, index) not in self._of_matrices:
            mine = {("matrix", name): type_ for name, type_ in axes.types(matrix).items()}
            self._of_matrices[section, index] = self.types(section) | mine
        return self._of_matrices[section, index]

    def types(self, place: str) -> Types:
        if place not in self._made:
            self._made[place] = self._make(place)
        return self._made[place]

    def _make(self, place: str) -> Types:
        types = _RUN | self._params()
        if place == "when":
            return types
        types |= {
            ("inputs", written(name), "digest"): "string"
            for _, name, _ in raw.named(self.spec, "inputs")
        }
        if place != "defaults":
            types |= self._steps("steps")
        if place in _HOOKS:
            types |= self._steps(place) | {("run", "phase"): "string"}
        return types

    def _params(self) -> Types:
        found: Types = {}
        for _, name, param in raw.named(self.spec, "params"):
            type_ = param.get("type", "string")
            found["params", written(name)] = _known_type(type_)
        return found

    def _steps(self, section: str) -> Types:
        found: Types = {}
        for _, name, step in raw.named(self.spec, section):
            start = ("steps", written(name))
            many = "matrix" in step  # then all but the phase are lists
            found[(*start, "phase")] = "string"
            found[(*start, "exitCode")] = "list" if many else "dyn"  # null where it never started
            for key, output in raw.mapping(step, "outputs").items():
                found[(*start, "outputs", written(key))] = "list" if many else _output_type(output)
            for _, key, _ in raw.named(step, "artifacts"):
                found[(*start, "artifacts", written(key))] = "list" if many else "string"
            for key in self._called.get(called_by(step), ()):
                found[(*start, "outputs", written(key))] = "list" if many else "dyn"
        return found

    def real_names(self, root: str, where: Path) -> list[str]:
        """Return the names under `root` as the manifest writes them, seen from `where`."""
        if root == "matrix":
            step = self.spec[where[1]][where[2]] if where[1] in _SECTIONS else {}
            return axes.names(raw.mapping(step, "matrix"))
        if root == "steps":
            found = [step.get("name") for _, _, step in raw.steps(self.spec)]
            return [name for name in found if isinstance(name, str)]
        return [name for _, name, _ in raw.named(self.spec, root)]


def _read(field: str, rest: list[str | int]) -> bool:
    """Tell whether expressions are read in the part of a step that `rest` leads to."""
    if field in _READ_BELOW:
        return rest[:1] == [_READ_BELOW[field]]
    if field == "services":
        return rest[1:2] != ["script"]
    return field in EXPRESSIVE


_PARAM_TYPES = frozenset({"string", "integer", "number", "boolean", "list", "object"})


def _output_type(output: Any) -> str:
    type_ = output.get("type", "string") if isinstance(output, dict) else "dyn"
    nullable = isinstance(output, dict) and "default" in output and output["default"] is None
    return "dyn" if nullable else _known_type(type_)


def _known_type(type_: Any) -> str:
    return type_ if isinstance(type_, str) and type_ in _PARAM_TYPES else "dyn"


def check(
    spec: dict[str, Any],
    steps: raw.Steps,
    texts: Iterable[tuple[Path, str]],
    open_steps: frozenset[str] = frozenset(),
    called: Outputs = NOTHING_CALLED,
) -> Iterator[Finding]:
    """Yield what is wrong with the expressions of a spec.

    Args:
        spec: the raw spec.
        steps: its steps, hooks and finally steps.
        texts: its strings that hold expressions, with their paths.
        open_steps: steps that may have outputs nobody here knows of.
        called: the outputs of workflows that are known, by name; those of others are not judged.
    """
    world = World(spec, called)
    hidden = {**_hidden(steps, called), **dict.fromkeys(map(written, open_steps), _ANY_RESULT)}
    for path, text in texts:
        types = world.at(path)
        where = ("spec", *path)
        if types is not None:
            if types is _UPSTREAM:
                types = _with_outputs(types, text)
                world.fine.clear()
            elif hidden:
                types = _opened(types, text, hidden)
                world.fine.clear()  # what is known of these types goes with them
            yield from _text(text, where, types, world)
        elif path[-1] == "script":
            remedy = "pass the value by env and read it as a variable"
            yield Finding(where, "expressions are not read in a script", remedy)
        elif not _FREE_TEXT & set(map(str, path)):
            yield Finding(where, "expressions are not read here", _elsewhere(path))


def _with_outputs(types: Types, text: str) -> Types:
    """The outputs of an upstream stand in another manifest: their types show when it has run."""
    try:
        used = references(text)
    except TemplateError:
        return types  # a fault of its own
    return types | {
        name: "dyn" for name in used if name[:2] == ("upstream", "outputs") and name[2:]
    }


def called_by(step: dict[str, Any]) -> str:
    """Return the name of the workflow that a raw step runs, "" when it runs none."""
    name = raw.mapping(step, "uses").get("workflow")
    return name if isinstance(name, str) else ""


def _hidden(steps: raw.Steps, called: Outputs) -> dict[str, tuple[str, ...]]:
    """Return the steps whose outputs stand in another manifest that isn't known here."""
    return {
        written(step["name"]): ("outputs",)
        for _, _, step in steps
        if "uses" in step and isinstance(step.get("name"), str) and called_by(step) not in called
    }


def _opened(types: Types, text: str, hidden: Mapping[str, tuple[str, ...]]) -> Types:
    """Return the types with what the text reads of open steps that are seen from there."""
    try:
        used = references(text)
    except TemplateError:
        return types  # a fault of its own
    more = {
        name: "dyn"
        for name in used
        if name[0] == "steps"
        and len(name) > 3  # noqa: PLR2004 - steps.NAME.outputs.NAME
        and name[2] in hidden.get(name[1], ())
        and ("steps", name[1], "phase") in types
    }
    return types | more if more else types


def _elsewhere(path: Path) -> str:
    if path[0] in {"schedules", "triggers"}:
        return "put it into the default of the param"
    return "write the value itself"


def _text(text: str, where: Path, types: Types, world: World) -> Iterator[Finding]:
    text = text.strip() if where[-1] == "when" else text
    try:
        pieces = split(text)
    except TemplateError as error:
        yield Finding(where, str(error), "write it as ${{ params.name }}")
        return
    for piece in pieces:
        if piece.expression:
            yield from _expression(piece, where, types, world)
    if len(pieces) == 1 and pieces[0].expression:
        yield from _result(pieces[0].text, where, types, world)


def _expression(piece: Piece, where: Path, types: Types, world: World) -> Iterator[Finding]:
    seen = (id(types), piece.text)
    if seen in world.fine:
        return
    used = sorted(names(piece.text))
    unknown = [name for name in used if name not in types or not all(map(usable, name))]
    for name in unknown:
        real = world.real_names(name[0], where)
        yield Finding(where, *_unknown(name, piece.text, types, real, world))
    problem = "" if unknown else expression.check(piece.text, types).problem
    if problem:
        yield Finding(where, f"{piece.text[:60]!r}: {problem}", "see docs/reference/workflow.md")
    elif not unknown:
        world.fine.add(seen)


def _unknown(
    name: Name, text: str, types: Mapping[Name, str], real_names: list[str], world: World
) -> tuple[str, str]:
    root, full = name[0], ".".join(name)
    for real in real_names:
        if f"{root}.{real}" in text and not usable(real):
            return f"{root}.{real} can't be written", f"rename {real!r}"
        if f"{root}.{real}" in text and "-" in real:
            return f"there is no {full} here", f"write {root}.{written(real)}"
    if any(known != name and known[: len(name)] == name for known in types):
        return f"{full} is not a value", f"write {_PARTS[root]}"
    return f"there is no {full} here", _hint(name, types, world)


def _hint(name: Name, types: Mapping[Name, str], world: World) -> str:
    if name == ("run", "phase"):
        return "run.phase is known in hooks and finally steps"
    if name[0] == "matrix" and not any(known[0] == "matrix" for known in types):
        return "only a step with a matrix has one; other steps see its outputs as lists"
    here = any(known[:2] == name[:2] for known in types)
    if name[0] == "steps" and not here and name[1:2]:
        elsewhere = map(written, world.real_names("steps", ()))
        if name[1] in elsewhere:
            return f"{name[1]} is not seen from here: it stands in another section"
    return _near(name, types)


def _near(name: Name, types: Mapping[Name, str]) -> str:
    known = [".".join(one) for one in types if one[0] == name[0]]
    return nearest(".".join(name), known) if known else f"this manifest has no {name[0]}"


def _result(text: str, where: Path, types: Types, world: World) -> Iterator[Finding]:
    wanted = _wanted(where, world)
    if wanted is None or not all(name in types for name in names(text)):
        return
    checked = expression.check(text, types)
    found = "string" if checked.type == "timestamp" else checked.type
    if not checked.problem and found not in {wanted, "dyn"}:
        problem = f"{text[:60]!r} is of type {found}, not {wanted}"
        yield Finding(where, problem, f"write an expression of type {wanted}")


def _wanted(where: Path, world: World) -> str | None:
    if where[-1] == "when":
        return "boolean"
    match where:
        case ("spec", "params", int(index), "default"):
            type_ = world.spec["params"][index].get("type", "string")
            return type_ if type_ in ("string", "integer", "number", "boolean") else None
        case ("spec", _, int(), "matrix", str()):
            return "list"
    return None
