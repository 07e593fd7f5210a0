"""A source's own word on a commit is of that commit, whatever is tried meanwhile."""

import asyncio
from dataclasses import replace
from pathlib import Path

from controller.clock import SystemClock
from controller.errors import UnappliedError
from controller.model.changes import PutSource
from controller.model.condition import SourceStatus, Status, put
from controller.model.settings import GitSource, Settings, Statuses
from controller.observations import Observations
from controller.reconcile import conditions
from controller.secrets import ConfiguredSecrets
from controller.store import Store
from controller.words import Words

FIRST, SECOND = "a" * 40, "b" * 40
FORGE = Statuses(
    type="gitea", secret="none", api="http://127.0.0.1:9/api/v1", repository="acme/ops"
)


def partly(now) -> SourceStatus:
    """Return a source that has applied the first commit but for a faulty manifest."""
    revision = f"main@sha1:{FIRST}"
    ready = conditions.condition("Ready", Status.FALSE, "PartiallyApplied", "1 fault: x", now, 1)
    return SourceStatus(
        name="ops",
        kind="Git",
        location="somewhere",
        last_attempted_revision=revision,
        last_applied_revision=revision,
        conditions=put((), ready),
    )


async def test_a_refused_commit_does_not_turn_the_one_before_it_green(tmp_path: Path) -> None:
    clock = SystemClock()
    store = await Store.open(tmp_path / "state", clock=clock, kind="serve")
    source = GitSource(name="ops", url="file:///none", statuses=FORGE)
    settings = Settings(state_dir=tmp_path / "state", sources=(source,))
    words = Words(
        store=store,
        observations=Observations((), ()),
        settings=lambda: settings,
        secrets=ConfiguredSecrets({}),
        clock=clock,
    )
    first = partly(clock.now())
    tried = replace(first, last_attempted_revision=f"main@sha1:{SECOND}")
    error = UnappliedError("1 fault: y", reason="NotApplied")
    for status in (first, conditions.failed(tried, error, clock.now())):
        change = PutSource(status=status)
        await store.record(*words.accompanied([change]))
        words.follow(change)
    words.touched("ops", [])  # of the first commit: all is looked at
    told = asyncio.create_task(words.run())
    try:
        async with asyncio.timeout(10):
            while (states := await states_of(store))[FIRST] == "Pending":
                await asyncio.sleep(0.01)
    finally:
        told.cancel()
        await asyncio.wait([told])
        await store.close()
    assert states == {FIRST: "Failure", SECOND: "Failure"}


async def states_of(store: Store) -> dict[str, str]:
    """Return each commit's state under the source's own name."""
    from sqlalchemy import select

    from controller.store import tables

    c = tables.commit_status.c
    query = select(c.commit_id, c.state).where(c.workflow == "")
    return {str(commit): str(state) for commit, state in await store.read(lambda r: r.fetch(query))}
