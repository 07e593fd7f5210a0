"""What decides when runs start, as a manifest writes it -> as Workflow and Declaration hold it."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any

from controller.model import quantity
from controller.model.workflow import (
    CatchUp,
    Concurrency,
    History,
    Input,
    OnChange,
    RunPolicy,
    Schedule,
    Upstream,
    Webhook,
)

Raw = Mapping[str, Any]


def starting(spec: Raw) -> dict[str, Any]:
    """Return the fields that a Workflow and its Declaration share; left-out ones keep defaults."""
    return {
        "schedules": tuple(map(schedule, spec.get("schedules", ()))),
        **triggers(spec),
        "inputs": tuple(map(input_, spec.get("inputs", ()))),
        "starting_deadline": maybe_duration(spec.get("startingDeadline")),
        "catch_up": CatchUp(spec.get("catchUp", "None")),
        "max_catch_up": spec.get("maxCatchUp", 100),
        **{name: read(spec[key]) for key, (name, read) in _SELDOM.items() if key in spec},
    }


@lru_cache(maxsize=1024)
def duration(text: str) -> timedelta:
    return quantity.parse_duration(text)


def maybe_duration(text: str | None) -> timedelta | None:
    return None if text is None else duration(text)


def schedule(raw: Raw) -> Schedule:
    return Schedule(
        cron=raw["cron"],
        time_zone=raw.get("timeZone", "UTC"),
        name=raw.get("name"),
        jitter=duration(raw.get("jitter", "0s")),
        params=raw.get("params", {}),
        run_policy=RunPolicy(raw.get("runPolicy", "Always")),
    )


def triggers(spec: Raw) -> dict[str, Any]:
    raws = spec.get("triggers")
    if not raws:
        return {}
    changes = [on_change(raw) for raw in raws if "onChange" in raw]
    return {
        "on_change": changes[0] if changes else None,
        "upstreams": tuple(upstream(raw) for raw in raws if "workflow" in raw),
        "webhooks": tuple(webhook(raw) for raw in raws if "webhook" in raw),
    }


def on_change(raw: Raw) -> OnChange:
    return OnChange(
        spec="spec" in raw["onChange"],
        inputs="inputs" in raw["onChange"],
        cancel_in_progress=raw.get("cancelInProgress", False),
    )


def upstream(raw: Raw) -> Upstream:
    phases = tuple(raw.get("phases", ("Succeeded",)))
    return Upstream(workflow=raw["workflow"], phases=phases, params=raw.get("params", {}))


def webhook(raw: Raw) -> Webhook:
    return Webhook(receiver=raw["webhook"], params=raw.get("params", {}))


def concurrency(raw: Raw) -> Concurrency:
    return Concurrency(group=raw["group"], limit=raw.get("limit"))


def history(raw: Raw) -> History:
    return History(
        successful=raw.get("successful"),
        failed=raw.get("failed"),
        keep_last_successful=raw.get("keepLastSuccessful", True),
    )


def _failures(raw: Raw) -> int:
    return int(raw["failures"])


_SELDOM: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "concurrency": ("concurrency", concurrency),
    "queueTimeout": ("queue_timeout", duration),
    "history": ("history", history),
    "suspendAfter": ("suspend_after", _failures),
    "expectEvery": ("expect_every", duration),
}


def input_(raw: Raw) -> Input:
    return Input(name=raw["name"], path=raw["path"], ignore=tuple(raw.get("ignore", ())))
