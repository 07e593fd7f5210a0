"""A run's params: what is given, checked, and the defaults, evaluated."""

import json
from collections.abc import Mapping
from typing import Any

from controller.errors import UsageError
from controller.manifest.expression import render, run_scope
from controller.manifest.names import nearest
from controller.manifest.values import OF_TYPE, one_of
from controller.model.run import Run
from controller.model.workflow import Json, Param, ParamType, Workflow

_WORDS = {"true": True, "false": False}


def resolve_params(workflow: Workflow, given: Mapping[str, Json], run: Run) -> dict[str, Json]:
    """Return a value for every param: the given one, else its default over `run`.

    Given values are taken as they are, never evaluated. Those of type number are floats.

    Raises:
        UsageError: a param is unknown, has no value, or one of the wrong type or outside its enum.
        ExpressionError: a default's expression gives no value.
    """
    known = {param.name: param for param in workflow.params}
    for name in given:
        if name not in known:
            problem = f"{workflow.name} has no param {name!r}"
            raise UsageError(problem, remedy=nearest(name, known))
    scope = {
        "run": run_scope(run),
        "workflow": {"name": workflow.name, "labels": workflow.labels},
    }
    return {name: _value(param, given, scope) for name, param in known.items()}


def _value(param: Param, given: Mapping[str, Json], scope: Mapping[str, Any]) -> Json:
    if param.name in given:
        value = given[param.name]
    elif param.required:
        raise UsageError(f"the param {param.name!r} has no value", remedy=f"-p {param.name}=...")
    else:
        value = render(param.default, scope)
    return _checked(param, value)


def _checked(param: Param, value: Json) -> Json:
    if not OF_TYPE[param.type](value):
        problem = f"the param {param.name!r} is a {param.type}, not {json.dumps(value)[:80]}"
        raise UsageError(problem)
    if param.enum is not None and not one_of(value, param.enum):
        listed = ", ".join(map(str, param.enum))
        problem = f"the param {param.name!r} can't be {json.dumps(value)[:80]}"
        raise UsageError(problem, remedy=f"use {listed}")
    return float(value) if param.type is ParamType.NUMBER else value


def read_param(param: Param, text: str) -> Json:
    """Return the value that `text` of `-p name=text` stands for; lists and objects are JSON.

    Raises:
        UsageError: the text is no value of the param's type, or not in its enum.
    """
    return _checked(param, _read(param, text))


def _read(param: Param, text: str) -> Json:
    if param.type is ParamType.STRING:
        return text
    if param.type is ParamType.BOOLEAN:
        return _WORDS.get(text, text)
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        problem = f"the param {param.name!r} is a {param.type}, not {text[:80]!r}"
        raise UsageError(problem) from None


def _refuse(word: str) -> Json:
    raise ValueError(word)
