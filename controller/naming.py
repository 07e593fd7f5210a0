"""What a manifest names that only the configuration can give to its source."""

from collections.abc import Callable, Mapping

from controller.model.settings import Alert, Receiver
from controller.model.source import Declaration, Fault
from controller.reconcile import upstream
from controller.reconcile.alerting import alert_fault
from controller.reconcile.webhook import receiver_fault
from controller.secrets import ConfiguredSecrets


def name_fault(
    declaration: Declaration,
    *,
    secrets: ConfiguredSecrets,
    exports: Callable[[str], bool],
    alerts: Mapping[str, Alert],
    receivers: Mapping[str, Receiver],
) -> Fault | None:
    """Return what a workflow names that the configuration doesn't give to its source.

    `exports` tells whether workflows of other sources may name those of one.
    """
    for secret in declaration.secrets:
        problem = secrets.fault(declaration.source, secret)
        if problem is not None:
            remedy = "define it, or list the source in its `sources`, in the configuration"
            return Fault(
                file=declaration.file, pointer="/spec/secrets", problem=problem, remedy=remedy
            )
    for one in declaration.upstreams:
        if "/" in one.workflow and not exports(upstream.key_of(declaration.source, one)[0]):
            return Fault(
                file=declaration.file,
                pointer="/spec/triggers",
                problem=f"the source of {one.workflow!r} exports nothing",
                remedy="set `exports: true` at that source in the configuration",
            )
    return alert_fault(declaration, alerts) or receiver_fault(declaration, receivers)
