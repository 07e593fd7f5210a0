"""Two configurations: what a running controller takes over, and what waits for a restart."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from controller.model.settings import DaggerSettings, Settings

LIVE = {  # fields that are taken over while runs go on -> their keys
    "alerts": "alerts",
    "groups": "groups",
    "receivers": "receivers",
    "secrets": "secrets",
    "shutdown_grace": "shutdownGrace",
    "history_successful": "history.successful",
    "history_failed": "history.failed",
    "history_ttl": "history.ttl",
}
LATER = {  # fields that need a restart -> their keys, where these are not just their names
    "state_dir": "stateDir",
    "store_url": "store",
    "max_parallel": "maxParallel.steps",
    "infrastructure_retry": "infrastructureRetry",
    "log_max_size": "logs.maxSize",
    "input_max_size": "inputs.maxSize",
    "local_user": "local.user",
}
DAGGER = {
    "default_registry": "defaultRegistry",
    "workflow_timeout": "workflows.timeout",
    "retry_limit": "workflows.retry.limit",
    "cache": "workflows.cache",
    "cache_enabled": "workflows.cache.enabled",
    "cache_max_size": "workflows.cache.maxSize",
    "max_concurrent_runs": "maxConcurrentRuns",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What another configuration changes; `settings` are those to go on with.

    Sources by name: `added`, `removed`, `changed`. `keys` are taken over, `restart` are not yet.
    """

    settings: Settings
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


def difference(old: Settings, new: Settings) -> Difference:
    """Return what changes when `new` is read by a controller that runs with `old`."""
    before = {one.name: one for one in old.sources}
    after = {one.name: one for one in new.sources}
    anew = grants(old) != grants(new)
    taken = taken_over(old, new)
    return Difference(
        settings=taken,
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(
            name for name in after if name in before and (anew or before[name] != after[name])
        ),
        keys=live_keys(old, taken),
        restart=restart_keys(taken, new),
    )


def taken_over(old: Settings, new: Settings) -> Settings:
    """Return the old settings with all of the new ones that need no restart."""
    runs = replace(old.max_parallel, runs=new.max_parallel.runs)
    live = {name: getattr(new, name) for name in LIVE}
    return replace(old, sources=new.sources, max_parallel=runs, **live)


def grants(settings: Settings) -> Mapping[str, Any]:
    """Return what manifests are judged by: when it changes, every source is read again."""
    return {
        "alerts": {name: one.sources for name, one in settings.alerts.items()},
        "groups": set(settings.groups),
        "receivers": settings.receivers,
        "secrets": {name: one.sources for name, one in settings.secrets.items()},
        "exports": {one.name for one in settings.sources if one.exports},
    }


def live_keys(old: Settings, taken: Settings) -> tuple[str, ...]:
    found = [key for name, key in LIVE.items() if getattr(old, name) != getattr(taken, name)]
    if old.max_parallel != taken.max_parallel:
        found.append("maxParallel.runs")
    return tuple(found)


def restart_keys(taken: Settings, new: Settings) -> tuple[str, ...]:
    """Return the keys whose new values are not in use; the file's own name is no setting."""
    names = [one.name for one in fields(Settings) if one.name not in {"dagger", "file"}]
    found = [LATER.get(name, name) for name in names if getattr(taken, name) != getattr(new, name)]
    dagger = [one.name for one in fields(DaggerSettings)]
    of_dagger = [
        name for name in dagger if getattr(taken.dagger, name) != getattr(new.dagger, name)
    ]
    return (*found, *(f"dagger.{DAGGER.get(name, name)}" for name in of_dagger))
