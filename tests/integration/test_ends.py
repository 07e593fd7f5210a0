"""What a controller that starts learns of the ends it was not there to answer."""

from datetime import timedelta

import pytest

from controller.ends import Ends
from controller.model.changes import AnswerSchedule, CreateRun
from controller.model.condition import WorkflowStatus
from controller.model.run import Phase
from controller.model.source import Declaration
from controller.model.workflow import Upstream
from controller.observations import Key
from controller.reconcile.upstream import ended_at
from controller.store import Store
from tests.store_lives import NOON, FixedClock, a_run

KEY = ("main", "second")
MARK = "upstream:main/first"
SECOND = Declaration(
    source="main",
    name="second",
    file="s.yaml",
    document=0,
    blob="b",
    spec_digest="d",
    upstreams=(Upstream(workflow="first"),),
)


@pytest.fixture
async def store(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock())
    yield store
    await store.close()


async def test_ends_after_the_mark_are_read_from_the_store_and_settled_once(store):
    runs = [
        a_run(
            f"first-{minute}",
            source="main",
            workflow="first",
            phase=Phase.SUCCEEDED,
            finished_at=NOON + timedelta(minutes=minute),
        )
        for minute in (1, 2, 3)
    ]
    await store.record(*(CreateRun(run=run) for run in runs))
    looked: list[Key] = []
    ends = Ends(store, looked.extend)
    mark = NOON + timedelta(minutes=1)
    await ends.follow(
        KEY, SECOND, WorkflowStatus(source="main", name="second", answered={MARK: mark})
    )
    given = ends.of(KEY)
    assert {one.id for one in given} == {"first-2", "first-3"}
    ends.take(runs[2])  # told again: the same end
    assert len(ends.of(KEY)) == 2
    assert looked == [KEY]
    through = ended_at(runs[2])
    answer = AnswerSchedule(source="main", workflow="second", schedule=MARK, through=through)
    ends.settle(KEY, given, [answer])
    assert ends.of(KEY) == ()
