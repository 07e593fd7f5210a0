"""Settings to parts: what the daemon, `rondel exec` and the Python API are put together from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.clock import Clock
from controller.execute.engine import RunEngine
from controller.execute.ports import Executor, Inputs, Ledger
from controller.execute.request import cache_scope, shared_cache_scope
from controller.model.cache import Scope
from controller.model.settings import Settings
from controller.reconcile.alerting import alert_problem
from controller.secrets import ConfiguredSecrets
from controller.store import Store


def run_engine(
    settings: Settings,
    *,
    store: Store,
    ledger: Ledger,
    inputs: Inputs,
    secrets: ConfiguredSecrets,
    clock: Clock,
    on_line: Callable[..., Any] | None = None,
    current: Callable[[], Settings] | None = None,
) -> RunEngine:
    """Return a run engine with the one executor that the settings name.

    `current` gives the settings of this moment, where sources come and go.
    """
    now = current or (lambda: settings)
    return RunEngine(
        ledger=ledger,
        blobs=store.blobs,
        inputs=inputs,
        secrets=secrets,
        executors={settings.executor: executor(settings, secrets=secrets, clock=clock)},
        clock=clock,
        state_dir=Path(settings.state_dir),
        max_steps=settings.max_parallel.steps,
        log_max_size=settings.log_max_size,
        infrastructure_retry=settings.infrastructure_retry,
        on_line=on_line,
        results=store if settings.dagger.cache_enabled else None,
        scopes=lambda source: scopes(now(), source),
        cache_scope=lambda source: volumes(now(), source),
        kept=store,
        input_max_size=settings.input_max_size,
        alert_problem=lambda source, name: alert_problem(now().alerts, source, name),
    )


def scopes(settings: Settings, source: str) -> tuple[Scope, ...]:
    """Return where a source's results of steps are kept, then where else they may be read.

    Runs of `exec` and of the Python API belong to no configured source: their ref is empty.
    """
    known = {one.name: one for one in settings.sources}
    read_from = known[source].read_from if source in known else ()
    return tuple(
        (name, known[name].ref.text if name in known else "") for name in (source, *read_from)
    )


def volumes(settings: Settings, source: str) -> str:
    """Return the scope of a source's cache volumes: its own, or one that it shares by name."""
    shared = next((one.share_caches for one in settings.sources if one.name == source), None)
    return shared_cache_scope(shared) if shared else cache_scope(*scopes(settings, source)[0])


def executor(settings: Settings, *, secrets: ConfiguredSecrets, clock: Clock) -> Executor:
    """Return the executor that the settings name; never another one in its place."""
    state_dir = Path(settings.state_dir)
    if settings.executor == "local":
        from controller.execute.local import LocalExecutor  # noqa: PLC0415 - one of the two

        return LocalExecutor(state_dir=state_dir, user=settings.local_user)
    from controller.execute.dagger import DaggerExecutor  # noqa: PLC0415 - one of the two

    return DaggerExecutor(settings.dagger, secrets=secrets, state_dir=state_dir, clock=clock)
