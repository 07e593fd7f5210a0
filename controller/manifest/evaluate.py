"""A step with its expressions evaluated: what an executor is given."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller.manifest import formats
from controller.manifest.expression import ExpressionError, as_text, evaluate, render
from controller.model.workflow import Step


def evaluated(step: Step, scope: Mapping[str, Any]) -> Step:
    """Return the step with every expression in it evaluated, but for `when`.

    Values of `env` keep their JSON type (null unsets); arguments and paths are text, and paths
    are confined again.

    Raises:
        ExpressionError: an expression gives no value, or a path that leaves its folder.
    """
    return replace(
        step,
        image=None if step.image is None else _text(step.image, scope),
        args=None if step.args is None else tuple(_text(arg, scope) for arg in step.args),
        shell=tuple(_text(word, scope) for word in step.shell),
        env=render(step.env, scope),
        inputs=None if step.inputs is None else render(step.inputs, scope),
        workdir=None if step.workdir is None else _mount_path(step.workdir, scope),
        mounts=tuple(replace(m, path=_mount_path(m.path, scope)) for m in step.mounts),
        outputs=tuple(replace(o, path=_path(o.path, scope)) for o in step.outputs),
        artifacts=tuple(replace(a, path=_path(a.path, scope)) for a in step.artifacts),
    )


def condition(text: str, scope: Mapping[str, Any]) -> bool:
    """Return what a `when` says.

    Raises:
        ExpressionError: it gives no value, or none that is true or false.
    """
    value = evaluate(text, scope)
    if not isinstance(value, bool):
        raise ExpressionError(f"`when` is true or false, not {as_text(value)[:60]}", where=text)
    return value


def _text(text: str, scope: Mapping[str, Any]) -> str:
    return as_text(evaluate(text, scope))


def _path(text: str, scope: Mapping[str, Any]) -> str:
    return _confined(_text(text, scope), formats.path)


def _mount_path(text: str, scope: Mapping[str, Any]) -> str:
    return _confined(_text(text, scope), formats.mount_path)


def _confined(text: str, check: Any) -> str:
    try:
        check(text)
    except ValueError as error:
        raise ExpressionError(str(error)) from None
    return text
