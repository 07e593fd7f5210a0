"""Why a slot started or did not, of every reason that leaves a fact."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.model.condition import WorkflowStatus
from controller.model.run import Event, Phase, Run, Trigger
from controller.model.source import Declaration
from controller.model.workflow import Schedule
from controller.reconcile.slot_story import Facts, slot_run_id, story

SLOT = datetime(2027, 3, 10, 12, tzinfo=UTC)
SECOND, HOUR, DAY = (timedelta(seconds=n) for n in (1, 3600, 86400))
HOURLY = Schedule(name="hourly", cron="0 * * * *")
DECLARED = Declaration(
    source="main",
    name="w",
    file="w.yaml",
    document=0,
    blob="b",
    spec_digest="d",
    schedules=(HOURLY,),
)


def event(reason, at, message="") -> Event:
    return Event(at=at, reason=reason, source="main", workflow="w", message=message)


LOADED = event("WorkflowLoaded", SLOT - DAY)


def facts(*, runs=(), events=(LOADED,), answered=SLOT, now=SLOT + HOUR / 2, controllers=True):
    status = WorkflowStatus(
        source="main", name="w", answered={"hourly": answered} if answered else {}
    )
    return Facts(
        declaration=DECLARED,
        status=status,
        runs=runs,
        events=events,
        controllers=controllers,
        now=now,
    )


def slot_run(**fields) -> Run:
    blank = Run(
        id=slot_run_id(DECLARED, HOURLY, SLOT),
        source="main",
        workflow="w",
        trigger=Trigger.SCHEDULE,
        identity="slot",
        schedule="hourly",
        scheduled_time=SLOT,
        created_at=SLOT,
    )
    return replace(blank, **fields)


def skipped(reason, **fields) -> Run:
    return slot_run(phase=Phase.SKIPPED, reason=reason, **{"finished_at": SLOT, **fields})


OTHER = replace(
    slot_run(),
    id="w-other",
    trigger=Trigger.MANUAL,
    phase=Phase.SUCCEEDED,
    created_at=SLOT - SECOND,
    started_at=SLOT - SECOND,
    finished_at=SLOT + SECOND,
)
RAN = slot_run(phase=Phase.SUCCEEDED, started_at=SLOT + 2 * SECOND, finished_at=SLOT + HOUR)


@pytest.mark.parametrize(
    ("known", "answer", "words"),
    [
        (facts(runs=[RAN]), "Succeeded", "jitter 0 s, then 2.000 s late"),
        (
            facts(runs=[skipped("DeadlineExceeded", created_at=SLOT + 400 * SECOND)]),
            "DeadlineExceeded",
            "400 s late: 100 s beyond the startingDeadline of 300 s",
        ),
        (
            facts(runs=[OTHER, skipped("ConcurrencyForbidden")]),
            "ConcurrencyForbidden",
            "run w-other (Manual) was active",
        ),
        (
            facts(runs=[skipped("ConcurrencyForbidden")]),
            "ConcurrencyForbidden",
            "another run, which is not kept",
        ),
        (facts(runs=[skipped("QueueTimeout")]), "QueueTimeout", "longer than queueTimeout"),
        (facts(runs=[skipped("Superseded")]), "Superseded", "newer slot"),
        (facts(runs=[skipped("Unchanged")]), "Unchanged", "IfChanged"),
        (facts(runs=[skipped("Retired")]), "Retired", "removed while it waited"),
        (
            facts(runs=[slot_run(not_before=SLOT + HOUR)]),
            "Pending",
            "it starts at 2027-03-10T13:00:00Z (jitter)",
        ),
        (
            facts(runs=[slot_run(), replace(OTHER, phase=Phase.RUNNING, finished_at=None)]),
            "Pending",
            "run w-other is active",
        ),
        (facts(now=SLOT - 90 * SECOND), "Ahead", "in 90 s"),
        (
            facts(events=[event("WorkflowLoaded", SLOT + SECOND)]),
            "FirstSeenLater",
            "2027-03-10T12:00:01Z",
        ),
        (
            facts(events=[event("InvalidManifest", SLOT + SECOND)]),
            "InvalidManifest",
            "never valid before",
        ),
        (
            facts(events=[event("SpecChanged", SLOT + SECOND)]),
            "Unknown",
            "history before 2027-03-10T12:00:01Z is gone",
        ),
        (facts(events=[LOADED, event("Suspended", SLOT - HOUR)]), "Suspended", "T11:00:00Z"),
        (
            facts(
                events=[
                    LOADED,
                    event("Suspended", SLOT - HOUR, "w.yaml says so"),
                    event("SuspensionChanged", SLOT - SECOND, "by ann, too"),
                ]
            ),
            "Suspended",
            "T11:00:00Z: by ann, too",
        ),
        (facts(events=[LOADED, event("WorkflowRetired", SLOT - HOUR)]), "Retired", "T11:00:00Z"),
        (
            facts(
                events=[LOADED, event("Suspended", SLOT - DAY / 2), event("Resumed", SLOT - HOUR)]
            ),
            "Unknown",
            "catchUp None",
        ),
        (facts(events=[LOADED, event("Suspended", SLOT + SECOND)]), "Unknown", "no event tells"),
        (
            facts(answered=SLOT - HOUR, controllers=False),
            "NotLookedAt",
            "after 2027-03-10T11:00:00Z have not been dealt with yet; no controller is running",
        ),
        (
            facts(runs=[replace(RAN, id="w-filled", trigger=Trigger.BACKFILL)]),
            "Unknown",
            "; run w-filled (Backfill) is Succeeded",
        ),
        (facts(answered=None), "NotSeen", "a controller is registered"),
    ],
)
def test_each_reason_is_told_with_its_figures(known, answer, words):
    found = story(known, HOURLY, SLOT)
    assert (found.answer, words in found.words) == (answer, True), found.words


def test_what_is_no_slot_names_its_neighbours():
    found = story(facts(), HOURLY, SLOT + 20 * 60 * SECOND)
    assert found.answer == "NoSlot"
    assert "the nearest are 2027-03-10T12:00:00Z and 2027-03-10T13:00:00Z" in found.words
