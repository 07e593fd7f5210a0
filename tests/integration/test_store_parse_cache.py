"""What was read is not read again."""

from datetime import timedelta

import pytest

from controller.model.changes import PutWorkflow
from controller.model.condition import WorkflowStatus
from controller.store import Store, parse_cache
from tests.store_lives import FixedClock


@pytest.fixture
def clock():
    return FixedClock()


@pytest.fixture
async def store(tmp_path, clock):
    store = await Store.open(tmp_path, clock=clock)
    yield store
    await store.close()


def entry(number, version="1"):
    return (f"{number:040x}", version, f"index {number}", (f"body {number}", "", "third"))


def names(count):
    return [entry(number)[0] for number in range(count)]


async def test_what_was_put_is_found_by_content_and_version(store):
    await store.put_parsed([entry(1), entry(2), entry(1, version="2")])
    blobs = [*names(3), "unknown"]
    assert await store.parsed(blobs, "1") == {names(3)[1]: "index 1", names(3)[2]: "index 2"}
    assert await store.parsed([], "1") == {}
    assert await store.parsed(blobs, "3") == {}


async def test_thousands_are_found_at_once_and_no_others(store):
    await store.put_parsed([entry(number) for number in range(3000)])
    found = await store.parsed([*names(2000), "unknown"], "1")
    assert len(found) == 2000
    assert await store.read(lambda reader: reader.parsed(names(2000), "1")) == found


async def test_a_body_is_found_by_the_number_of_its_document(store):
    await store.put_parsed([entry(7)])
    blob = entry(7)[0]
    assert await store.body(blob, "1", 0) == "body 7"
    assert await store.body(blob, "1", 1) is None
    assert await store.body(blob, "1", 2) == "third"
    assert await store.body(blob, "2", 0) is None


async def test_what_is_put_again_replaces_the_old(store):
    await store.put_parsed([entry(7)])
    await store.put_parsed([(entry(7)[0], "1", "new", ("newer",))])
    assert await store.parsed([entry(7)[0]], "1") == {entry(7)[0]: "new"}
    assert await store.body(entry(7)[0], "1", 0) == "newer"


async def test_the_longest_unused_go_first(store, clock):
    await store.put_parsed([entry(number) for number in range(10)])
    clock.at += timedelta(days=2)
    await store.parsed(names(3), "1")  # used: stamped anew
    assert await store.write(parse_cache.trim(3)) == 7
    assert set(await store.parsed(names(10), "1")) == set(names(3))
    assert await store.body(names(10)[9], "1", 0) is None
    assert await store.write(parse_cache.trim(3)) == 0


async def test_what_a_workflow_works_by_is_kept_however_long_it_was_not_read(store, clock):
    await store.put_parsed([entry(1), entry(2)])
    statuses = [
        WorkflowStatus(source="s", name=f"w{number}", blob=entry(number)[0], retired=retired)
        for number, retired in ((1, False), (2, True))
    ]
    await store.record(*(PutWorkflow(status=one) for one in statuses))
    clock.at += timedelta(days=2)
    await store.put_parsed([entry(number) for number in range(3, 6)])
    assert await store.write(parse_cache.trim(3)) == 1
    assert set(await store.parsed(names(6), "1")) == {entry(n)[0] for n in (1, 3, 4, 5)}
