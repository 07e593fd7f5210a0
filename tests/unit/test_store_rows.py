"""Rows and texts, without a database."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.errors import UsageError
from controller.store import trees
from controller.store.place import database_path
from controller.store.rows import clean, json_text, read_time, time_text
from controller.store.statements import Statements, compiled
from controller.store.tables import metadata
from controller.store.trees import Node

MOMENTS = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))


@given(MOMENTS)
def test_a_time_is_read_back_as_the_same_moment(moment):
    text = time_text(moment)
    assert len(text) == 27
    assert read_time(text) == moment


@given(MOMENTS, MOMENTS)
def test_the_order_of_texts_is_the_order_of_times(one, other):
    assert (time_text(one) < time_text(other)) == (one < other)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        time_text(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


@given(st.text(st.characters()))
def test_cleaned_text_is_what_every_database_takes(text):
    cleaned = clean(text)
    assert "\0" not in cleaned
    cleaned.encode("utf-8")


def test_json_survives_a_lone_surrogate_and_sorts_its_keys():
    assert json_text({"b": "\ud800", "a": 1}) == '{"a":1,"b":"\\ud800"}'
    assert json_text({}) == "{}"
    assert json_text([]) == "[]"


def test_the_database_lies_in_the_state_directory():
    state = Path("/var/lib/rondel")
    assert database_path(state) == state / "rondel.db"
    assert database_path(state, "sqlite:///{stateDir}/x.db") == state / "x.db"
    assert database_path(state, "sqlite:////srv/x.db") == Path("/srv/x.db")


def test_another_database_is_refused_without_its_password():
    with pytest.raises(
        UsageError, match="postgresql\\+psycopg database is not supported"
    ) as caught:
        database_path(Path("/s"), "postgresql+psycopg://u:secret@db/rondel")
    assert "secret" not in str(caught.value)


def test_a_tree_is_read_back_and_its_order_does_not_matter():
    nodes = [Node(trees.FILE, "b/c", "sha256:1"), Node(trees.FOLDER, "a", "")]
    data = trees.encode(nodes)
    assert data == trees.encode(reversed(nodes))
    assert sorted(trees.decode(data)) == sorted(nodes)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\0b"])
def test_a_path_that_leaves_its_tree_is_refused(path):
    with pytest.raises(ValueError, match="no place"):
        trees.decode(trees.encode([Node(trees.FILE, path, "sha256:1")]))


def test_a_link_has_no_place_in_a_tree():
    with pytest.raises(ValueError, match="no place"):
        trees.decode(trees.encode([Node("120000", "a", "sha256:1")]))


def test_every_table_and_statement_compiles_for_postgresql_too():
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateIndex, CreateTable

    dialect = postgresql.dialect()
    for table in metadata.sorted_tables:
        str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=dialect))


def test_constants_of_a_statement_travel_with_its_text():
    from sqlalchemy import select

    from controller.store import tables as t

    query = compiled(select(t.run.c.id).where(t.run.c.phase == "Pending"))
    assert query.constants == {"phase_1": "Pending"}
    assert ":phase_1" in query.text
    assert Statements().claim_run.constants == {"param_1": "Pending"}
