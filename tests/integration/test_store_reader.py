"""Looking at the store, with and without a process that writes."""

from datetime import timedelta

import pytest

from controller.errors import StalledError, UnreachableError
from controller.model.changes import CreateRun, PutWorkflow, RecordEvent
from controller.model.run import Event, Phase
from controller.store import Reader, Store
from tests.store_lives import NOON, FixedClock, a_run, a_workflow, begun


@pytest.fixture
async def store(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock())
    yield store
    await store.close()


@pytest.fixture
async def runs(store):
    made = [
        a_run(f"w-{i}", created_at=NOON + timedelta(minutes=i), source="ab"[i % 2])
        for i in range(6)
    ]
    await store.record(*(CreateRun(run=run) for run in made))
    return made


def ids(runs):
    return [run.id for run in runs]


def test_a_directory_without_a_store_is_named(tmp_path):
    with pytest.raises(UnreachableError, match="--state-dir") as caught:
        Reader.open(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_database_is_no_store(tmp_path):
    (tmp_path / "rondel.db").touch()
    with pytest.raises(UnreachableError, match="empty"):
        Reader.open(tmp_path)


def test_a_file_that_is_no_database_is_said_to_be_unreadable(tmp_path):
    (tmp_path / "rondel.db").write_text("no database at all, " * 100)
    with pytest.raises(UnreachableError, match="not a database"):
        Reader.open(tmp_path)


async def test_a_store_of_a_newer_program_is_not_read(store, tmp_path):
    await store.write(
        lambda tx: tx._connection.execute("UPDATE alembic_version SET version_num = '9999'")
    )
    with pytest.raises(StalledError, match="newer Rondel"):
        Reader.open(tmp_path)
    await store.write(
        lambda tx: tx._connection.execute("UPDATE alembic_version SET version_num = '0000'")
    )
    with pytest.raises(UnreachableError, match="db upgrade"):
        Reader.open(tmp_path)


async def test_a_closed_store_can_be_read(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock())
    await store.record(CreateRun(run=a_run()))
    await store.close()
    with Reader.open(tmp_path) as reader:
        assert reader.run("w-1") == a_run()
        assert reader.instances() == []


async def test_a_reader_sees_what_is_written_after_it_opened(store, tmp_path):
    with Reader.open(tmp_path) as reader:
        await store.record(CreateRun(run=a_run()))
        assert ids(reader.runs()) == ["w-1"]


async def test_a_snapshot_sees_one_moment(store, tmp_path):
    with Reader.open(tmp_path) as reader, reader.snapshot():
        assert reader.runs() == []
        await store.record(CreateRun(run=a_run()))
        assert reader.runs() == []


async def test_a_reader_can_not_write(store, tmp_path):
    import sqlite3

    with Reader.open(tmp_path) as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM run")


async def test_runs_are_listed_newest_first_and_filtered(store, runs):
    def look(reader):
        return (
            ids(reader.runs()),
            ids(reader.runs(source="a")),
            ids(reader.runs(source="a", workflow="none")),
            ids(reader.runs(since=NOON + timedelta(minutes=4))),
            ids(reader.runs(phases=[Phase.PENDING], limit=2)),
            ids(reader.runs(phases=[])),
        )

    everything, of_a, of_none, since, two, never = await store.read(look)
    assert everything == ["w-5", "w-4", "w-3", "w-2", "w-1", "w-0"]
    assert (of_a, of_none) == (["w-4", "w-2", "w-0"], [])
    assert (since, two, never) == (["w-5", "w-4"], ["w-5", "w-4"], [])


async def test_a_page_goes_on_where_the_last_one_ended(store, runs):
    page = await store.read(lambda reader: reader.runs(limit=4))
    last = page[-1]
    rest = await store.read(lambda reader: reader.runs(before=(last.created_at, last.id)))
    assert ids(page) + ids(rest) == [f"w-{i}" for i in reversed(range(6))]


async def test_a_run_is_found_by_its_id_or_a_prefix(store, runs):
    assert await store.read(lambda reader: reader.run("w-9")) is None
    assert len(await store.read(lambda reader: reader.run_by_prefix("w-"))) == 6
    assert ids(await store.read(lambda reader: reader.run_by_prefix("w-3"))) == ["w-3"]


async def test_active_runs_are_those_not_yet_over(store):
    await store.record(*begun(store.instance, "w-1"), CreateRun(run=a_run("w-2")))
    await store.record(CreateRun(run=a_run("w-3", phase=Phase.SKIPPED)))
    assert ids(await store.read(lambda reader: reader.active())) == ["w-1", "w-2"]


async def test_active_runs_and_a_workflows_runs_are_found_by_an_index(store, tmp_path):
    with Reader.open(tmp_path) as reader:
        seen: list[str] = []
        reader._connection.set_trace_callback(seen.append)
        reader.active()
        reader.runs(source="a", workflow="w", limit=5)
        reader.runs(limit=5)
        reader.events(run="w-1")
        reader.events(source="a", workflow="w", limit=5)
        reader._connection.set_trace_callback(None)
        plans = [
            " ".join(row[3] for row in reader._connection.execute(f"EXPLAIN QUERY PLAN {text}"))
            for text in seen
        ]
    used = ["run_active", "run_by_workflow", "run_by_time", "event_by_run", "event_by_workflow"]
    assert [name for name, plan in zip(used, plans, strict=True) if name in plan] == used


async def test_the_newest_events_come_oldest_first_and_can_be_followed(store):
    events = [Event(at=NOON, reason=f"E{i}") for i in range(5)]
    await store.record(*(RecordEvent(event=event) for event in events))
    newest = await store.read(lambda reader: reader.events(limit=2))
    assert [event.reason for event in newest] == ["E3", "E4"]
    first = (await store.read(lambda reader: reader.events()))[0]
    following = await store.read(lambda reader: reader.events(after=first.id, limit=2))
    assert [event.reason for event in following] == ["E1", "E2"]
    assert await store.read(lambda reader: reader.events(since=NOON + timedelta(1))) == []


async def test_retired_workflows_are_listed_on_request_only(store):
    await store.record(PutWorkflow(status=a_workflow("a", retired=True)))
    await store.record(PutWorkflow(status=a_workflow("b", source="other")))
    assert [w.name for w in await store.read(lambda reader: reader.workflows())] == ["b"]
    assert len(await store.read(lambda reader: reader.workflows(retired=True))) == 2
    assert await store.read(lambda reader: reader.workflows("none")) == []
    assert (await store.read(lambda reader: reader.workflow("main", "a"))).retired
    assert await store.read(lambda reader: reader.workflow("main", "z")) is None


async def test_a_process_that_writes_is_listed_while_it_lives(store, tmp_path):
    (instance,) = await store.read(lambda reader: reader.instances())
    assert (instance.id, instance.kind) == (store.instance, "serve")
    assert instance.started_at == NOON
