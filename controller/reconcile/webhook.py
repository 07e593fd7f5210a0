"""A delivery x a workflow that names its receiver -> the run it starts, if any. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from controller.model.changes import CreateRun
from controller.model.delivery import Delivery
from controller.model.run import Trigger
from controller.model.settings import Receiver
from controller.model.source import Declaration, Fault
from controller.model.workflow import Webhook
from controller.reconcile.observed import Observed
from controller.reconcile.plan import Pass


def answer(
    declaration: Declaration, observed: Observed, delivery: Delivery, now: datetime
) -> tuple[CreateRun, ...]:
    """Return the run of a delivery, at what is applied now: waiting, or skipped by the policy.

    A suspended workflow starts nothing, as with a slot; nor does one of another receiver.
    """
    trigger = named(declaration, delivery.receiver)
    look = Pass(declaration, observed, now)
    if trigger is None or look.after.suspended:
        return ()
    run = replace(look.run(Trigger.WEBHOOK, delivery.identity), params=dict(trigger.params))
    return (look.create(run, skipped="ConcurrencyForbidden" if look.is_forbidden(run) else ""),)


def named(declaration: Declaration, receiver: str) -> Webhook | None:
    return next((one for one in declaration.webhooks if one.receiver == receiver), None)


def receiver_fault(declaration: Declaration, receivers: Mapping[str, Receiver]) -> Fault | None:
    """Return what is wrong with the receivers that a workflow names, None when nothing is."""
    for trigger in declaration.webhooks:
        known = receivers.get(trigger.receiver)
        if known is not None and declaration.source in known.sources:
            continue
        why = (
            f"is not for source {declaration.source!r}" if known else "is not in the configuration"
        )
        return Fault(
            file=declaration.file,
            pointer="/spec/triggers",
            problem=f"receiver {trigger.receiver!r} {why}",
            remedy="define it, or list the source in its `sources`, in the configuration",
        )
    return None
