"""Checks of literal values: params and what is given for them, outputs' defaults, secrets."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from controller.manifest import raw
from controller.manifest.finding import Finding, Path
from controller.manifest.names import nearest
from controller.manifest.template import OPENING
from controller.model.workflow import Json


def _integer(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


OF_TYPE: dict[str, Callable[[Json], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": _integer,
    "number": _number,
    "boolean": lambda value: isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "json": lambda _: True,
}
_TRIGGERS = ("onChange", "workflow", "webhook")
_TRIGGER_SETTINGS = {
    "cancelInProgress": {"onChange"},
    "phases": {"workflow"},
    "params": {"workflow", "webhook"},
}
_LOOKED_INTO = frozenset({"inputs", "outputs", "secrets"})  # of a step
_DEFAULT = "give the param a default"
_EITHER = "give it here, or give the param a default"
_HINTS = {"string": "quote it", "integer": "write a whole number without quotes"}


def check(spec: dict[str, Any], steps: raw.Steps, workflow: str = "") -> Iterator[Finding]:
    """Yield values of the wrong type, missing ones, and secrets that the spec doesn't name.

    Args:
        spec: the raw spec.
        steps: its steps, hooks and finally steps.
        workflow: its own name, "" when it can't be read.
    """
    params = {name: param for _, name, param in raw.named(spec, "params")}
    yield from _params(spec)
    yield from _schedules(spec, params)
    yield from _triggers(spec, params, workflow)
    yield from _steps(spec, steps)


def _params(spec: dict[str, Any]) -> Iterator[Finding]:
    for index, param in raw.entries(spec, "params"):
        path = ("spec", "params", index)
        for place, allowed in enumerate(_list(param, "enum")):
            yield from _type(param, allowed, (*path, "enum", place))
        if "default" in param and not has_expression(param["default"]):
            yield from _value(param, param["default"], (*path, "default"))


def _list(value: dict[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def has_expression(value: Json) -> bool:
    return isinstance(value, str) and OPENING in value


def _value(param: dict[str, Any], value: Json, path: Path) -> Iterator[Finding]:
    wrong = list(_type(param, value, path))
    yield from wrong
    allowed = _list(param, "enum")
    if not wrong and allowed and not one_of(value, allowed):
        listed = ", ".join(map(str, allowed[:12]))
        yield Finding(path, f"{value!r} is not among the values of its enum", f"use {listed}")


def one_of(value: Json, allowed: list[Json] | tuple[Json, ...]) -> bool:
    """Tell whether `value` is listed; true is not 1."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed)


def _type(declared: dict[str, Any], value: Json, path: Path) -> Iterator[Finding]:
    type_ = declared.get("type", "string")
    if isinstance(type_, str) and type_ in OF_TYPE and not OF_TYPE[type_](value):
        article = "an" if type_[0] in "aeio" else "a"
        yield Finding(path, f"{value!r} is not {article} {type_}", _HINTS.get(type_, ""))


def _schedules(spec: dict[str, Any], params: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    for index, schedule in raw.entries(spec, "schedules"):
        values = raw.mapping(schedule, "params")
        path: Path = ("spec", "schedules", index)
        yield from given(values, params, (*path, "params"))
        yield from missing(params, values, path, "the schedule", _EITHER)


def given(
    values: Mapping[str, Any], params: Mapping[str, dict[str, Any]], path: Path
) -> Iterator[Finding]:
    """Yield values for params that aren't there, or of another type; expressions fit all."""
    for name, value in values.items():
        if name not in params:
            remedy = nearest(name, params)
            yield Finding((*path, name), f"there is no param {name!r}", remedy, at_key=True)
        elif not has_expression(value):
            yield from _value(params[name], value, (*path, name))


def missing(
    params: Mapping[str, dict[str, Any]],
    values: Mapping[str, Any],
    path: Path,
    who: str,
    remedy: str,
) -> Iterator[Finding]:
    """Yield params without default that nobody gives a value."""
    for name, param in params.items():
        if "default" not in param and name not in values:
            problem = f"{who} leaves the param {name!r} without a value"
            yield Finding(path, problem, remedy)


def _triggers(
    spec: dict[str, Any], params: dict[str, dict[str, Any]], workflow: str
) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, trigger in raw.entries(spec, "triggers"):
        path: Path = ("spec", "triggers", index)
        yield from _misplaced(trigger, path)
        who = _identity(trigger)
        if who in seen:
            yield Finding(path, f"{who} is given twice", "keep one of them")
        elif who:
            values = raw.mapping(trigger, "params")
            yield from given(values, params, (*path, "params"))
            remedy = _DEFAULT if "onChange" in trigger else _EITHER
            yield from missing(params, values, path, who, remedy)
        seen.add(who)
        if workflow and trigger.get("workflow") == workflow:
            problem = "a workflow can't start itself"
            yield Finding((*path, "workflow"), problem, "name another one")


def _identity(trigger: dict[str, Any]) -> str:
    """Return what a trigger is told apart by; "" when it has none or several."""
    found = [kind for kind in _TRIGGERS if kind in trigger]
    if len(found) != 1:
        return ""
    return found[0] if found[0] == "onChange" else f"{found[0]} {trigger[found[0]]!r}"


def _misplaced(trigger: dict[str, Any], path: Path) -> Iterator[Finding]:
    """Yield settings of another kind of trigger."""
    for key, kinds in _TRIGGER_SETTINGS.items():
        if key in trigger and _identity(trigger) and kinds.isdisjoint(trigger):
            problem = f"`{key}` goes with {' or '.join(sorted(kinds))}"
            yield Finding((*path, key), problem, "remove it", at_key=True)


def _steps(spec: dict[str, Any], steps: raw.Steps) -> Iterator[Finding]:
    declared = {name for _, name in raw.texts(spec, "secrets")}
    for section, index, step in steps:
        if _LOOKED_INTO.isdisjoint(step):
            continue
        path = raw.step_path(section, index)
        if "inputs" in step and "agent" not in step:
            remedy = "pass values by env, or mount an input"
            yield Finding((*path, "inputs"), "only an agent has `inputs`", remedy, True)  # noqa: FBT003 - a record
        for name, output in raw.mapping(step, "outputs").items():
            if isinstance(output, dict) and output.get("default") is not None:
                yield from _type(output, output["default"], (*path, "outputs", name, "default"))
        if declared and "secrets" in step:
            yield from _secrets(step, declared, path)


def _secrets(step: dict[str, Any], declared: set[str], path: Path) -> Iterator[Finding]:
    for index, use in raw.entries(step, "secrets"):
        name = use.get("secret")
        if isinstance(name, str) and name not in declared:
            problem = f"the secret {name!r} is not among spec.secrets"
            remedy = nearest(name, declared)
            yield Finding((*path, "secrets", index, "secret"), problem, f"{remedy}; else add it")


def names_used(spec: dict[str, Any]) -> dict[str, Any]:
    """Return what the spec names outside itself, sorted: secrets, agents, alerts, calls."""
    secrets = {name for _, name in raw.texts(spec, "secrets")}
    agents, alerts, calls = set(), set(), set()
    for _, _, step in raw.steps(spec):
        for _, use in raw.entries(step, "secrets"):
            if isinstance(name := use.get("secret"), str):
                secrets.add(name)
        if isinstance(agent := step.get("agent"), str):
            agents.add(agent)
        if isinstance(alert := step.get("alert"), str):
            alerts.add(alert)
        if isinstance(called := raw.mapping(step, "uses").get("workflow"), str):
            calls.add(called)
    found = {"secrets": secrets, "agents": agents, "alerts": alerts, "calls": calls}
    return {kind: tuple(sorted(names)) for kind, names in found.items()}
