"""What made a run, read from what it is recorded with."""

from datetime import UTC, datetime

import pytest

from controller.model.cause import cause, words
from controller.model.run import Run, Trigger

NOON = datetime(2027, 3, 10, 12, 0, tzinfo=UTC)


def run(trigger, identity, **fields):
    return Run(
        id="w-1",
        source="s",
        workflow="w",
        trigger=trigger,
        identity=identity,
        created_at=NOON,
        **fields,
    )


@pytest.mark.parametrize(
    ("made", "told", "said"),
    [
        (
            run(Trigger.UPSTREAM, "upstream:first-1:2027-03-10T12:00:00+00:00"),
            {"run": "first-1"},
            "Upstream (run first-1)",
        ),
        (run(Trigger.CHANGE, "change:3", change=3), {"change": 3}, "Change (change 3)"),
        (
            run(Trigger.WEBHOOK, "webhook:deploy:a:b"),
            {"receiver": "deploy", "delivery": "a:b"},
            "Webhook (receiver deploy, delivery a:b)",
        ),
        (
            run(Trigger.BACKFILL, "backfill:w.backfill-1:s:x", schedule="s"),
            {"backfill": "w.backfill-1", "schedule": "s"},
            "Backfill (backfill w.backfill-1, schedule s)",
        ),
        (
            run(Trigger.SCHEDULE, "slot:nightly:x", schedule="nightly"),
            {"schedule": "nightly"},
            "Schedule (schedule nightly)",
        ),
        (
            run(Trigger.UPSTREAM, "call:w-0:sizes.0.1", parent="w-0"),
            {"caller": "w-0"},
            "Upstream (caller w-0)",
        ),
        (
            run(Trigger.WEBHOOK, "call:w-0:sizes.0.1", parent="w-0"),
            {"caller": "w-0"},
            "Webhook (caller w-0)",
        ),
        (
            run(Trigger.UPSTREAM, "interrupted:w-0", rerun_of="w-0"),
            {"run": "w-0"},
            "Upstream (run w-0)",
        ),
        (run(Trigger.MANUAL, "manual:x"), {}, "Manual"),
        (run(Trigger.RERUN, "rerun:w-0:k", rerun_of="w-0"), {"run": "w-0"}, "Rerun (run w-0)"),
    ],
)
def test_a_run_says_what_made_it(made, told, said):
    assert cause(made) == told
    assert words(made) == said
