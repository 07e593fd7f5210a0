"""A step with its expressions evaluated: what an executor is given."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller.manifest import formats
from controller.manifest.expression import ExpressionError, as_text, evaluate, render
from controller.model.workflow import CacheVolume, Service, Step


def evaluated(step: Step, scope: Mapping[str, Any]) -> Step:
    """Return the step with every expression in it evaluated, but for `when` and `matrix`.

    Values of `env` keep their JSON type (null unsets); arguments and paths are text, and paths
    are confined again. Of one combination of a matrix step, the scope holds `matrix`.

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
        module=None
        if step.module is None
        else replace(step.module, args=render(step.module.args, scope)),
        uses=None
        if step.uses is None
        else replace(step.uses, params=render(step.uses.params, scope)),
        user=None if step.user is None else _text(step.user, scope),
        workdir=None if step.workdir is None else _mount_path(step.workdir, scope),
        caches=tuple(_cache(one, scope) for one in step.caches),
        services=tuple(_service(one, scope) for one in step.services),
        mounts=tuple(replace(m, path=_mount_path(m.path, scope)) for m in step.mounts),
        outputs=tuple(replace(o, path=_path(o.path, scope)) for o in step.outputs),
        artifacts=tuple(replace(a, path=_path(a.path, scope)) for a in step.artifacts),
    )


def _cache(volume: CacheVolume, scope: Mapping[str, Any]) -> CacheVolume:
    key = _text(volume.key, scope)
    if not key:
        raise ExpressionError("the key of a cache is empty", where=volume.key[:80])
    return replace(volume, key=key, path=_mount_path(volume.path, scope))


def _service(service: Service, scope: Mapping[str, Any]) -> Service:
    return replace(
        service,
        image=None if service.image is None else _text(service.image, scope),
        args=None if service.args is None else tuple(_text(arg, scope) for arg in service.args),
        env=render(service.env, scope),
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
