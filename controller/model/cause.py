"""What made a run, read from its identity: for people, and for their programs."""

from collections.abc import Callable, Mapping

from controller.model.run import Run, Trigger

Cause = Mapping[str, str | int]


def cause(run: Run) -> Cause:
    """Return what made the run, besides its trigger; {} of a person's own.

    `run`: the upstream's that ended, or the one that is run again; `change`: its number;
    `receiver` and `delivery`: of a webhook; `backfill`: its id; `schedule`; `caller`: the run
    whose step it is. That one has the trigger's own cause.
    """
    if run.rerun_of is not None:
        return {"run": run.rerun_of}
    if run.parent is not None:  # its trigger is its caller's, its identity is not
        return {"caller": run.parent}
    return _CAUSES.get(run.trigger, _nobody)(run)


def _nobody(run: Run) -> Cause:
    del run
    return {}


def _part(run: Run, number: int) -> str:
    return run.identity.split(":", number + 1)[number]


_CAUSES: Mapping[Trigger, Callable[[Run], Cause]] = {
    Trigger.UPSTREAM: lambda run: {"run": _part(run, 1)},
    Trigger.CHANGE: lambda run: {"change": run.change},
    Trigger.WEBHOOK: lambda run: {
        "receiver": _part(run, 1),
        "delivery": run.identity.split(":", 2)[2],
    },
    Trigger.BACKFILL: lambda run: {"backfill": _part(run, 1), "schedule": run.schedule or ""},
    Trigger.SCHEDULE: lambda run: {"schedule": run.schedule or ""},
}


def words(run: Run) -> str:
    """Return the trigger and what made the run: `Upstream (run collect-1a2b3c)`."""
    told = ", ".join(f"{name} {value}" for name, value in cause(run).items())
    return f"{run.trigger} ({told})" if told else str(run.trigger)
