"""A pinned body -> the Workflow: defaults applied, implied needs added. The body is valid."""

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any

from controller.manifest.graph import all_needs, texts
from controller.manifest.template import OPENING, written
from controller.model import quantity
from controller.model.workflow import (
    UNSET,
    Artifact,
    Backoff,
    CacheMode,
    CachePolicy,
    CatchUp,
    ConcurrencyPolicy,
    Input,
    Mount,
    OnChange,
    OnInterrupt,
    Output,
    OutputType,
    Param,
    ParamType,
    Retry,
    RetryPolicy,
    Schedule,
    SecretUse,
    Step,
    Workflow,
)

Raw = Mapping[str, Any]
SECTIONS = ("steps", "onSuccess", "onFailure", "onCancel", "finally")
_MERGED = ("retry", "cache", "env")
_SIMPLE_DEFAULTS = ("image", "timeout", "mounts", "shell", "workdir")


def workflow(body: str) -> Workflow:
    """Return the workflow that a valid document's body (its canonical JSON) stands for."""
    value = json.loads(body)
    metadata, spec = value["metadata"], value["spec"]
    expressions = OPENING in body
    sections = [_section(spec, name, expressions=expressions) for name in SECTIONS]
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


def starting(spec: Raw) -> dict[str, Any]:
    """Return what decides when runs start, as Workflow and Declaration both hold it."""
    return {
        "schedules": tuple(map(schedule, spec.get("schedules", ()))),
        "on_change": on_change(spec),
        "inputs": tuple(map(input_, spec.get("inputs", ()))),
        "starting_deadline": maybe_duration(spec.get("startingDeadline")),
        "catch_up": CatchUp(spec.get("catchUp", "None")),
        "max_catch_up": spec.get("maxCatchUp", 100),
    }


@lru_cache(maxsize=1024)
def duration(text: str) -> timedelta:
    return quantity.parse_duration(text)


def maybe_duration(text: str | None) -> timedelta | None:
    return None if text is None else duration(text)


def param(raw: Raw) -> Param:
    return Param(
        name=raw["name"],
        type=ParamType(raw.get("type", "string")),
        enum=tuple(raw["enum"]) if "enum" in raw else None,
        default=raw.get("default", UNSET),
        description=raw.get("description", ""),
    )


def schedule(raw: Raw) -> Schedule:
    return Schedule(
        cron=raw["cron"],
        time_zone=raw.get("timeZone", "UTC"),
        name=raw.get("name"),
        jitter=duration(raw.get("jitter", "0s")),
        params=raw.get("params", {}),
    )


def on_change(spec: Raw) -> OnChange | None:
    for trigger in spec.get("triggers", ()):
        if "onChange" in trigger:
            watched = trigger["onChange"]
            return OnChange(
                spec="spec" in watched,
                inputs="inputs" in watched,
                cancel_in_progress=trigger.get("cancelInProgress", False),
            )
    return None


def input_(raw: Raw) -> Input:
    return Input(name=raw["name"], path=raw["path"], ignore=tuple(raw.get("ignore", ())))


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
    if not defaults:
        return raw
    full = {key: defaults[key] for key in _SIMPLE_DEFAULTS if key in defaults} | dict(raw)
    for key in _MERGED:
        if key in defaults:
            full[key] = merged(defaults[key], raw.get(key, {}))
    return full


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
        shell=tuple(raw.get("shell", ("sh", "-eu", "-c"))),
        env=raw.get("env", {}),
        workdir=raw.get("workdir"),
        needs=needs,
        mounts=tuple(map(mount, raw.get("mounts", ()))),
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
