"""Prometheus metrics, fed by the changes that the store has written. Never labelled by run."""

from collections.abc import Callable, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from controller.model.changes import (
    Change,
    CreateRun,
    DropSource,
    FinishRun,
    PutSource,
    PutStep,
    PutWorkflow,
    RetryRun,
    StartRun,
)
from controller.model.condition import Condition
from controller.model.run import Phase, Run, StepRun, Trigger

SECONDS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)
MISSED = "DeadlineExceeded"


class Metrics:
    """The registry of one controller; `follow` takes each applied change."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._reconcile = Histogram(
            "rondel_reconcile_duration_seconds",
            "One pass of the reconciler",
            ["kind"],
            registry=registry,
            buckets=SECONDS,
        )
        self._condition = Gauge(
            "rondel_condition",
            "1: the condition has this status; other statuses have no series",
            ["kind", "source", "name", "type", "status"],
            registry=registry,
        )
        self._runs = Counter(
            "rondel_runs_total",
            "Finished runs",
            ["source", "workflow", "phase", "trigger"],
            registry=registry,
        )
        self._run_seconds = Histogram(
            "rondel_run_duration_seconds",
            "Runs from start to end",
            ["source", "workflow"],
            registry=registry,
            buckets=SECONDS,
        )
        self._step_seconds = Histogram(
            "rondel_step_duration_seconds",
            "Steps from start to end",
            registry=registry,
            buckets=SECONDS,
        )
        self._lag = Histogram(
            "rondel_schedule_lag_seconds",
            "From a slot (with its jitter) to its run's start",
            registry=registry,
            buckets=SECONDS,
        )
        self._missed = Counter(
            "rondel_missed_schedules_total",
            "Slots that came too late to start",
            ["source", "workflow"],
            registry=registry,
        )
        self._asked = Counter(
            "rondel_cache_requests_total",
            "Steps that asked for a kept result, by the answer: Hit, Miss, Fresh",
            ["result"],
            registry=registry,
        )
        self._fetched = Gauge(
            "rondel_source_last_success_timestamp_seconds",
            "When a source was last applied",
            ["source"],
            registry=registry,
        )
        self._queue = Gauge("rondel_queue_depth", "Runs that wait", ["group"], registry=registry)
        self._statuses: dict[tuple[str, ...], str] = {}
        self._open: dict[str, Run] = {}
        self._started: dict[str, datetime] = {}
        self._depths: Callable[[], Mapping[str, int]] = dict

    def text(self) -> bytes:
        """Return the exposition."""
        self._queue.clear()
        for group, depth in {"": 0, **self._depths()}.items():
            self._queue.labels(group).set(depth)
        return generate_latest(self.registry)

    def watch_queue(self, depths: Callable[[], Mapping[str, int]]) -> None:
        """Tell how many runs wait, by group; "" is of the workflows without one."""
        self._depths = depths

    def reconciled(self, kind: str, seconds: float) -> None:
        self._reconcile.labels(kind).observe(seconds)

    def take(self, active: tuple[Run, ...]) -> None:
        """Know the runs that were there before."""
        self._open.update({run.id: run for run in active})

    def watch_engine(self, up: Callable[[], bool]) -> None:
        """Tell whether the engine is there; only a controller that has one asks for this."""
        gauge = Gauge(
            "rondel_engine_up",
            "1: the last session that was opened on the engine could be",
            registry=self.registry,
        )
        gauge.set_function(lambda: float(up()))

    def follow(self, change: Change) -> None:
        """Take in one applied change."""
        match change:
            case CreateRun(run=run) | RetryRun(run=run):
                self._created(run)
            case StartRun(run=run_id, at=at):
                self._begun(run_id, at)
            case FinishRun():
                self._finished(change)
            case PutStep(step=step) if step.phase.terminal:
                self._ended(step)
            case PutWorkflow(status=one):
                self._judged("Workflow", one.source, one.name, one.conditions)
            case PutSource() | DropSource():
                self._source(change)
            case _:
                pass  # nothing is measured of it

    def _ended(self, step: StepRun) -> None:
        if step.started_at and step.finished_at:
            self._step_seconds.observe((step.finished_at - step.started_at).total_seconds())
        if step.cache:
            self._asked.labels(step.cache["result"]).inc()

    def _created(self, run: Run) -> None:
        if not run.phase.terminal:
            self._open[run.id] = run
            return
        self._count(run, run.phase)
        if run.reason == MISSED:
            self._missed.labels(run.source, run.workflow).inc()

    def _begun(self, run_id: str, at: datetime) -> None:
        self._started[run_id] = at
        run = self._open.get(run_id)
        if run is not None and run.trigger is Trigger.SCHEDULE and run.scheduled_time:
            due = run.not_before or run.scheduled_time
            self._lag.observe(max((at - due).total_seconds(), 0))

    def _finished(self, change: FinishRun) -> None:
        run, begun = self._open.pop(change.run, None), self._started.pop(change.run, None)
        if run is None:
            return
        self._count(run, change.phase)
        if begun is not None:
            seconds = (change.at - begun).total_seconds()
            self._run_seconds.labels(run.source, run.workflow).observe(seconds)

    def _count(self, run: Run, phase: Phase) -> None:
        self._runs.labels(run.source, run.workflow, str(phase), str(run.trigger)).inc()

    def _source(self, change: PutSource | DropSource) -> None:
        if isinstance(change, DropSource):
            self._gone(change.name)
            return
        source = change.status
        self._judged("Source", source.name, source.name, source.conditions)
        if source.last_success_at:
            self._fetched.labels(source.name).set(source.last_success_at.timestamp())

    def _gone(self, source: str) -> None:
        """A source that left the configuration is measured no more."""
        for key in [one for one in self._statuses if one[:2] == ("Source", source)]:
            self._condition.remove(*key, self._statuses.pop(key))
        self._fetched.remove(source)

    def _judged(self, kind: str, source: str, name: str, conditions: tuple[Condition, ...]) -> None:
        """One series for each condition, of the status it has: not one for each it could have."""
        for one in conditions:
            key = (kind, source, name, one.type)
            status, before = str(one.status), self._statuses.get(key)
            if status == before:
                continue
            if before is not None:
                self._condition.remove(*key, before)
            self._statuses[key] = status
            self._condition.labels(*key, status).set(1)
