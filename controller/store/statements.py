"""Every statement the writer repeats: SQLAlchemy expressions, compiled to text once per process.

The text goes to the driver with a mapping of named values. That costs microseconds where executing
the expression itself costs a good part of a millisecond.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    Integer,
    Table,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Compiled, Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.elements import BindParameter, ColumnElement

from controller.store import tables as t

SQLITE = sqlite.dialect(paramstyle="named")

_RUN_END = ("phase", "reason", "message", "outputs", "finished_at")
_ATTEMPT_END = ("phase", "reason", "exit_code", "error", "finished_at")


def given(name: str) -> BindParameter[str]:
    return bindparam(name, type_=Text)


def _number(name: str) -> BindParameter[int]:
    return bindparam(name, type_=Integer)


def _is_given(*columns: Column[Any]) -> ColumnElement[bool]:
    """Return "each column equals the value given as k_<name>"."""
    return and_(*(c == bindparam(f"k_{c.name}", type_=c.type) for c in columns))


class Query(NamedTuple):
    """A statement's text and the constants in it, by the names the text gives them."""

    text: str
    constants: Mapping[str, Any]


def compiled(statement: ClauseElement, dialect: Dialect = SQLITE) -> Query:
    """Return the statement's text; a list given to `in_` is spelt out."""
    done = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    fixed = {name: value for name, value in done.params.items() if name not in _required(done)}
    return Query(str(done), fixed)


def _required(done: Compiled) -> set[str]:
    binds: Mapping[str, BindParameter[Any]] = getattr(done, "binds", {})
    return {name for name, bind in binds.items() if bind.required}


class Statements:
    """The texts for one dialect; each is compiled when first used."""

    def __init__(self, dialect: Dialect = SQLITE) -> None:
        self._dialect = dialect

    def _query(self, statement: ClauseElement) -> Query:
        return compiled(statement, self._dialect)

    def _insert_new(self, table: Table) -> Query:
        return self._query(sqlite.insert(table).on_conflict_do_nothing())

    def _replace(self, table: Table, *keep: str) -> Query:
        """Return an insert that replaces the row of the same key where anything differs.

        Columns named in `keep` are given their defaults at the insert and are never replaced.
        """
        new = [c.name for c in table.columns if c.name not in keep]
        put = sqlite.insert(table).values({name: bindparam(name) for name in new})
        keys = {c.name for c in table.primary_key}
        change = [name for name in new if name not in keys]
        differs = or_(*(table.c[name].is_distinct_from(put.excluded[name]) for name in change))
        return self._query(
            put.on_conflict_do_update(
                index_elements=list(table.primary_key),
                set_={name: put.excluded[name] for name in change},
                where=differs,
            )
        )

    @cached_property
    def create_run(self) -> Query:
        return self._insert_new(t.run)

    @cached_property
    def put_spec(self) -> Query:
        return self._insert_new(t.spec)

    @cached_property
    def claim_run(self) -> Query:
        free = and_(t.run.c.phase == literal("Pending"), t.run.c.instance.is_(None))
        holder = t.run.alias("run_in_group")
        in_group = and_(
            holder.c.concurrency_group == given("group"),
            text(f"run_in_group.{t.ACTIVE}"),
            holder.c.instance.is_not(None),
        )
        held = select(func.count()).select_from(holder).where(in_group).scalar_subquery()
        has_place = or_(given("group").is_(None), held < _number("limit"))
        return self._query(
            update(t.run)
            .where(_is_given(t.run.c.id), free, has_place)
            .values(instance=given("instance"), concurrency_group=given("group"))
        )

    @cached_property
    def start_run(self) -> Query:
        owned = and_(t.run.c.phase == "Pending", t.run.c.instance == given("k_instance"))
        names = ("phase", "started_at", "executor", "revision", "inputs", "versions")
        values: dict[str, Any] = {name: bindparam(name) for name in names}
        return self._query(
            update(t.run)
            .where(_is_given(t.run.c.id), owned)
            .values(**values, reason="", message="", not_before=None)
        )

    @cached_property
    def requeue_run(self) -> Query:
        taken = and_(text(t.ACTIVE), t.run.c.instance.is_not(None))
        names = ("phase", "reason", "message", "not_before")
        values: dict[str, Any] = {name: bindparam(name) for name in names}
        return self._query(
            update(t.run)
            .where(_is_given(t.run.c.id), taken)
            .values(**values, instance=None, concurrency_group=None, started_at=None)
        )

    @cached_property
    def retry_run(self) -> Query:
        bad = text("phase IN ('Cancelled', 'Error', 'Failed', 'Interrupted')")
        empty = {"message": "", "outputs": "{}", "instance": None, "not_before": None}
        empty |= {"concurrency_group": None}
        return self._query(
            update(t.run)
            .where(_is_given(t.run.c.id), bad)
            .values(
                phase="Pending",
                reason=given("reason"),
                started_at=None,
                finished_at=None,
                **empty,
            )
        )

    @cached_property
    def keep_input(self) -> Query:
        return self._replace(t.kept_input)

    @cached_property
    def forget_untried(self) -> Query:
        """Rows of steps that were never tried; the run makes them anew when it starts again."""
        s = t.step_run.c
        return self._query(delete(t.step_run).where(_is_given(s.run), s.attempts == 0))

    @cached_property
    def adopt_run(self) -> Query:
        return self._query(
            update(t.run).where(_is_given(t.run.c.id)).values(instance=given("instance"))
        )

    @cached_property
    def finish_run(self) -> Query:
        return self._query(
            update(t.run)
            .where(_is_given(t.run.c.id), text(t.ACTIVE))
            .values(
                {name: bindparam(name) for name in _RUN_END}
                | {"versions": func.coalesce(given("versions"), t.run.c.versions)}
            )
        )

    @cached_property
    def note_finished(self) -> Query:
        """The last_* fields of the run's workflow; a time that isn't given stays."""
        own = and_(_is_given(t.run.c.id), t.run.c.parent.is_(None))  # no step of another run
        key = select(t.run.c.source, t.run.c.workflow).where(own).subquery()
        w = t.workflow.c
        return self._query(
            update(t.workflow)
            .where(w.source == select(key.c.source).scalar_subquery())
            .where(w.name == select(key.c.workflow).scalar_subquery())
            .values(
                last_run=given("k_id"),
                last_phase=given("phase"),
                last_success_at=func.coalesce(given("success_at"), w.last_success_at),
                last_failure_at=func.coalesce(given("failure_at"), w.last_failure_at),
                failures=case(
                    (given("success_at").is_not(None), 0),
                    (given("failure_at").is_not(None), w.failures + 1),
                    else_=w.failures,
                ),
            )
        )

    @cached_property
    def keyed_run(self) -> Query:
        """What the key of a schedule's run is made of."""
        r = t.run.c
        found = select(r.source, r.workflow, r.schedule, r.spec_digest, r.inputs, r.params)
        return self._query(found.where(_is_given(r.id), r.schedule.is_not(None)))

    @cached_property
    def note_key(self) -> Query:
        s = t.schedule.c
        own = _is_given(s.source, s.workflow, s.schedule)
        return self._query(update(t.schedule).where(own).values(last_key=given("key")))

    @cached_property
    def put_suspension(self) -> Query:
        w = t.workflow.c
        counted = case((given("suspension").is_(None), 0), else_=w.failures)
        return self._query(
            update(t.workflow)
            .where(_is_given(w.source, w.name))
            .where(w.suspension.is_distinct_from(given("suspension")))
            .values(suspension=given("suspension"), failures=counted)
        )

    @cached_property
    def put_step(self) -> Query:
        return self._replace(t.step_run)

    @cached_property
    def start_attempt(self) -> Query:
        """An attempt of a run that is Running; one that was recorded before stays as it is."""
        new = [bindparam(c.name, type_=c.type) for c in t.attempt.columns]
        live = select(*new).where(t.run.c.id == given("run"), t.run.c.phase == "Running")
        return self._query(
            sqlite.insert(t.attempt)
            .from_select([c.name for c in t.attempt.columns], live)
            .on_conflict_do_nothing()
        )

    @cached_property
    def run_step(self) -> Query:
        s = t.step_run.c
        return self._query(
            update(t.step_run)
            .where(_is_given(s.run, s.name, s.index))
            .values(
                phase="Running",
                reason="",
                exit_code=None,
                error="",
                attempts=_number("number"),
                started_at=func.coalesce(s.started_at, given("at")),
                finished_at=None,
            )
        )

    @cached_property
    def finish_attempt(self) -> Query:
        a = t.attempt.c
        values: dict[str, Any] = {name: bindparam(name) for name in _ATTEMPT_END}
        return self._query(
            update(t.attempt)
            .where(_is_given(a.run, a.step, a.index, a.number), a.phase == "Running")
            .values(
                **values,
                log=func.coalesce(given("log"), a.log),
                log_truncated=case(
                    (given("log").is_(None), a.log_truncated), else_=_number("log_truncated")
                ),
            )
        )

    @cached_property
    def seal_log(self) -> Query:
        a = t.attempt.c
        return self._query(
            update(t.attempt)
            .where(_is_given(a.run, a.step, a.index, a.number))
            .where(a.log.is_distinct_from(given("log")))
            .values(log=given("log"), log_truncated=_number("log_truncated"))
        )

    @cached_property
    def put_blob(self) -> Query:
        return self._insert_new(t.blob)

    @cached_property
    def put_cache_entry(self) -> Query:
        return self._replace(t.cache_entry)

    @cached_property
    def use_cache_entry(self) -> Query:
        c = t.cache_entry.c
        return self._query(
            update(t.cache_entry)
            .where(_is_given(c.key, c.source, c.ref), c.last_used_at < given("at"))
            .values(last_used_at=given("at"))
        )

    @cached_property
    def drop_cache_entry(self) -> Query:
        c = t.cache_entry.c
        return self._query(delete(t.cache_entry).where(_is_given(c.key, c.source, c.ref)))

    @cached_property
    def put_workflow(self) -> Query:
        return self._replace(
            t.workflow,
            *("last_run", "last_phase", "last_success_at", "last_failure_at"),
            *("suspension", "failures"),
        )

    @cached_property
    def put_source(self) -> Query:
        return self._replace(t.source)

    @cached_property
    def drop_source(self) -> Query:
        return self._query(delete(t.source).where(_is_given(t.source.c.name)))

    @cached_property
    def live_workflows(self) -> Query:
        w = t.workflow.c
        return self._query(
            select(w.name).where(_is_given(w.source), w.retired == 0).order_by(w.name)
        )

    @cached_property
    def retire_workflow(self) -> Query:
        w = t.workflow.c
        return self._query(update(t.workflow).where(_is_given(w.source, w.name)).values(retired=1))

    @cached_property
    def answer_schedule(self) -> Query:
        names = ("source", "workflow", "schedule", "through")
        put = sqlite.insert(t.schedule).values({name: bindparam(name) for name in names})
        return self._query(
            put.on_conflict_do_update(
                index_elements=list(t.schedule.primary_key),
                set_={"through": put.excluded.through},
                where=t.schedule.c.through < put.excluded.through,
            )
        )

    @cached_property
    def forget_schedule(self) -> Query:
        s = t.schedule.c
        return self._query(delete(t.schedule).where(_is_given(s.source, s.workflow, s.schedule)))

    @cached_property
    def put_event(self) -> Query:
        names = [c.name for c in t.event.columns if c.name != "id"]
        return self._query(insert(t.event).values({name: bindparam(name) for name in names}))

    @cached_property
    def put_run_event(self) -> Query:
        """An event of a run, which names the run's source and workflow."""
        names = ["at", "reason", "source", "workflow", "run", "step", "message", "data"]
        r = t.run.c
        told = select(
            given("at"),
            given("reason"),
            r.source,
            r.workflow,
            r.id,
            given("step"),
            given("message"),
            given("data"),
        ).where(r.id == given("run"))
        return self._query(insert(t.event).from_select(names, told))

    @cached_property
    def put_instance(self) -> Query:
        return self._insert_new(t.instance)

    @cached_property
    def drop_instance(self) -> Query:
        return self._query(delete(t.instance).where(_is_given(t.instance.c.id)))
