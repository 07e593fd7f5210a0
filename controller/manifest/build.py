"""A pinned body -> the Workflow: defaults applied, implied needs added. The body is valid."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from controller import digest
from controller.manifest.formats import SETTINGS_OF_A_MATRIX
from controller.manifest.graph import all_needs, texts
from controller.manifest.starts import duration, maybe_duration, starting
from controller.manifest.template import OPENING, written
from controller.model.workflow import (
    UNSET,
    Artifact,
    Backoff,
    CacheMode,
    CachePolicy,
    CacheSharing,
    CacheVolume,
    ConcurrencyPolicy,
    Matrix,
    ModuleCall,
    Mount,
    OnInterrupt,
    Output,
    OutputType,
    Param,
    ParamType,
    Retry,
    RetryPolicy,
    SecretUse,
    Service,
    Step,
    Workflow,
    WorkflowCall,
)

Raw = Mapping[str, Any]
Made = TypeVar("Made")
SECTIONS = ("steps", "onSuccess", "onFailure", "onCancel", "finally")
_MERGED = ("retry", "cache", "env")
_SIMPLE_DEFAULTS = (
    *("image", "timeout", "mounts", "shell", "workdir"),
    *("user", "caches", "services"),
)
_OF_A_CALL = ("retry", "timeout")  # the defaults that mean something where no process runs


def workflow(body: str) -> Workflow:
    """Return the workflow that a valid document's body (its canonical JSON) stands for."""
    value = json.loads(body)
    metadata, spec = value["metadata"], value["spec"]
    expressions = OPENING in body
    sections = [_section(spec, name, expressions=expressions) for name in SECTIONS]
    if called := value.get("calls"):
        sections = [tuple(_with_body(one, called) for one in section) for section in sections]
    return Workflow(
        name=metadata["name"],
        description=metadata.get("description", ""),
        labels=metadata.get("labels", {}),
        suspend=spec.get("suspend", False),
        when=_condition(spec),
        params=tuple(map(param, spec.get("params", ()))),
        concurrency_policy=ConcurrencyPolicy(spec.get("concurrencyPolicy", "Forbid")),
        priority=spec.get("priority", 0),
        max_parallel=spec.get("maxParallel"),
        timeout=duration(spec.get("timeout", "1h")),
        finally_timeout=duration(spec.get("finallyTimeout", "5m")),
        on_interrupt=OnInterrupt(spec["onInterrupt"]) if "onInterrupt" in spec else None,
        secrets=tuple(spec.get("secrets", ())),
        steps=sections[0],
        outputs=spec.get("outputs", {}),
        on_success=sections[1],
        on_failure=sections[2],
        on_cancel=sections[3],
        finally_=sections[4],
        **starting(spec),
    )


def param(raw: Raw) -> Param:
    return Param(
        name=raw["name"],
        type=ParamType(raw.get("type", "string")),
        enum=tuple(raw["enum"]) if "enum" in raw else None,
        default=raw.get("default", UNSET),
        description=raw.get("description", ""),
    )


def _section(spec: Raw, name: str, *, expressions: bool) -> tuple[Step, ...]:
    raws = spec.get(name, ())
    known = {written(raw["name"]): raw["name"] for raw in raws}
    full = (with_defaults(raw, spec.get("defaults", {})) for raw in raws)
    return tuple(
        step(raw, all_needs(raw, known, texts(raw) if expressions else ()), expressive=expressions)
        for raw in full
    )


def with_defaults(raw: Raw, defaults: Raw) -> Raw:
    """Return the step with the workflow's defaults below it: maps merge, lists replace."""
    defaults = _meant_for(raw, defaults)
    if not defaults:
        return raw
    full = {key: defaults[key] for key in _SIMPLE_DEFAULTS if key in defaults} | dict(raw)
    for key in _MERGED:
        if key in defaults:
            full[key] = merged(defaults[key], raw.get(key, {}))
    return full


def _meant_for(raw: Raw, defaults: Raw) -> Raw:
    """A called workflow has defaults of its own, an alert has no use for any."""
    if "alert" in raw:
        return {}
    if "uses" in raw:
        return {key: defaults[key] for key in _OF_A_CALL if key in defaults}
    return defaults


def merged(below: Raw, above: Raw) -> dict[str, Any]:
    """Return both maps as one; `above` wins, maps inside are merged too."""
    both = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            both[key] = merged(below[key], above[key])
    return both


def step(raw: Raw, needs: tuple[str, ...], *, expressive: bool = True) -> Step:
    return Step(
        name=raw["name"],
        image=raw.get("image"),
        script=raw.get("script"),
        args=tuple(raw["args"]) if "args" in raw else None,
        agent=raw.get("agent"),
        inputs=raw.get("inputs"),
        inputs_schema=raw.get("inputsSchema"),
        module=_if_given(module, raw, "module"),
        uses=_if_given(call, raw, "uses"),
        alert=raw.get("alert"),
        matrix=_if_given(matrix, raw, "matrix"),
        shell=tuple(raw.get("shell", ("sh", "-eu", "-c"))),
        env=raw.get("env", {}),
        workdir=raw.get("workdir"),
        user=raw.get("user"),
        needs=needs,
        mounts=tuple(map(mount, raw.get("mounts", ()))),
        caches=tuple(map(cache_volume, raw.get("caches", ()))),
        services=tuple(map(service, raw.get("services", ()))),
        outputs=tuple(output(name, value) for name, value in raw.get("outputs", {}).items()),
        artifacts=tuple(map(artifact, raw.get("artifacts", ()))),
        secrets=tuple(map(secret_use, raw.get("secrets", ()))),
        retry=retry(raw.get("retry", {})),
        timeout=maybe_duration(raw.get("timeout")),
        when=_condition(raw),
        continue_on_error=_forgiven(raw.get("continueOnError", False)),
        success_exit_codes=_successes(raw.get("successExitCodes", ())),
        cache=cache(raw.get("cache", {})),
        expressive=expressive,
    )


def _with_body(one: Step, called: Raw) -> Step:
    """A pinned body has those of the workflows it calls beside its spec."""
    if one.uses is None or one.uses.workflow not in called:
        return one
    return replace(one, uses=replace(one.uses, body=digest.canonical(called[one.uses.workflow])))


def _if_given(read: Callable[[Raw], Made], raw: Raw, key: str) -> Made | None:
    return read(raw[key]) if key in raw else None


def matrix(raw: Raw) -> Matrix:
    return Matrix(
        axes={name: values for name, values in raw.items() if name not in SETTINGS_OF_A_MATRIX},
        each=raw.get("from"),
        item=raw.get("as", "item"),
        include=tuple(raw.get("include", ())),
        exclude=tuple(raw.get("exclude", ())),
        max_parallel=raw.get("maxParallel"),
        fail_fast=raw.get("failFast", False),
    )


def module(raw: Raw) -> ModuleCall:
    return ModuleCall(
        ref=raw["ref"], version=raw["version"], call=raw["call"], args=raw.get("args", {})
    )


def call(raw: Raw) -> WorkflowCall:
    return WorkflowCall(workflow=raw["workflow"], params=raw.get("params", {}))


def cache_volume(raw: Raw) -> CacheVolume:
    sharing = CacheSharing(raw.get("sharing", "Shared"))
    return CacheVolume(key=raw["key"], path=raw["path"], sharing=sharing)


def service(raw: Raw) -> Service:
    return Service(
        name=raw["name"],
        image=raw.get("image"),
        args=tuple(raw["args"]) if "args" in raw else None,
        script=raw.get("script"),
        env=raw.get("env", {}),
        ready_port=raw.get("readyWhen", {}).get("port"),
    )


def _condition(raw: Raw) -> str | None:
    """Space around an expression would make it a longer text: a block scalar ends in a newline."""
    return raw["when"].strip() if "when" in raw else None


def _forgiven(value: Any) -> bool | tuple[int, ...]:
    return value if isinstance(value, bool) else tuple(value["exitCodes"])


def _successes(codes: Iterable[int]) -> tuple[int, ...]:
    """Zero always succeeds; the manifest names the others."""
    return tuple(sorted({0, *codes}))


def mount(raw: Raw) -> Mount:
    return Mount(path=raw["path"], input=raw.get("input"), artifact=raw.get("artifact"))


def output(name: str, raw: Raw) -> Output:
    return Output(
        name=name,
        path=raw["path"],
        type=OutputType(raw.get("type", "string")),
        default=raw.get("default", UNSET),
    )


def artifact(raw: Raw) -> Artifact:
    return Artifact(name=raw["name"], path=raw["path"])


def secret_use(raw: Raw) -> SecretUse:
    return SecretUse(secret=raw["secret"], name=raw.get("name"), file=raw.get("file"))


def retry(raw: Raw) -> Retry:
    codes = raw.get("exitCodes")
    return Retry(
        limit=raw.get("limit", 0),
        policy=RetryPolicy(raw.get("policy", "OnFailure")),
        exit_codes=None if codes is None else tuple(codes),
        max_elapsed=maybe_duration(raw.get("maxElapsed")),
        backoff=backoff(raw.get("backoff", {})),
    )


def backoff(raw: Raw) -> Backoff:
    return Backoff(
        duration=duration(raw.get("duration", "10s")),
        factor=float(raw.get("factor", 2)),
        max_duration=duration(raw.get("maxDuration", "5m")),
        jitter=raw.get("jitter", True),
    )


def cache(raw: Raw) -> CachePolicy:
    return CachePolicy(mode=CacheMode(raw.get("mode", "Off")), ttl=duration(raw.get("ttl", "7d")))
