"""What is kept, as tables. One definition for SQLite and, later, PostgreSQL.

Times are RFC 3339 text in UTC with six decimals and `Z`: fixed width, so text order is time order,
and a person with a database shell can read them. JSON is text that is never searched. "" and NULL
are told apart only where the model does.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

ENDED = "phase NOT IN ('Pending', 'Running')"
ACTIVE = "phase IN ('Pending', 'Running')"
"""Spelt the same in the partial index and in queries, or SQLite won't use the index.

PostgreSQL's twin of the condition comes with PostgreSQL: its word here loads that dialect at each
start, a fiftieth of a second.
"""


def _text(name: str, default: str | None = "") -> Column[str]:
    return Column(name, Text, nullable=default is None)


def _time(name: str) -> Column[str]:
    return Column(name, Text, nullable=True)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _id(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


IS_CALLED = "parent IS NOT NULL"
IS_RERUN = "rerun_of IS NOT NULL"
HOLDS_A_PLACE = f"concurrency_group IS NOT NULL AND {ACTIVE}"

run = Table(
    "run",
    metadata,
    Column("id", Text, primary_key=True),
    _id("source"),
    _id("workflow"),
    _text("trigger"),
    _text("identity"),
    _text("phase"),
    _text("reason"),
    _text("message"),
    _text("revision"),
    _text("spec_digest"),
    _count("generation"),
    _count("change"),
    _text("schedule", None),
    _time("scheduled_time"),
    _text("time_zone"),
    _time("not_before"),
    _text("params"),
    _count("priority"),
    _count("fresh"),
    _text("rerun_of", None),
    _text("executor", None),
    _text("instance", None),
    _text("spec"),  # digest of the row in `spec`; "" when a run was recorded without one
    _text("inputs"),
    _text("versions"),
    _text("outputs"),
    _id("created_at"),
    _time("started_at"),
    _time("finished_at"),
    _text("parent", None),  # the run whose step this one is
    _text("concurrency_group", None),  # of a claimed run
    UniqueConstraint("source", "workflow", "identity", name="run_identity"),
    Index("run_by_parent", "parent", sqlite_where=text(IS_CALLED)),
    Index("run_by_rerun", "rerun_of", sqlite_where=text(IS_RERUN)),
    Index("run_by_workflow", "source", "workflow", "created_at"),
    Index("run_by_time", "created_at"),
    Index("run_active", "phase", sqlite_where=text(ACTIVE)),
    Index("run_by_group", "concurrency_group", sqlite_where=text(HOLDS_A_PLACE)),
)

spec = Table(
    "spec",
    metadata,
    Column("digest", Text, primary_key=True),
    _text("body"),
)

step_run = Table(
    "step_run",
    metadata,
    _id("run"),
    _id("name"),
    Column("index", Integer, nullable=False),
    _text("section"),
    _count("position"),
    _text("matrix", None),
    _text("phase"),
    _text("reason"),
    Column("exit_code", BigInteger, nullable=True),
    _count("attempts"),
    _count("cached"),
    _text("outputs"),
    _text("artifacts"),
    _text("error"),
    _time("started_at"),
    _time("finished_at"),
    Column("cache", Text, nullable=False, server_default="{}"),
    PrimaryKeyConstraint("run", "name", "index"),
    sqlite_with_rowid=False,  # one tree to write instead of two
)

attempt = Table(
    "attempt",
    metadata,
    _id("run"),
    _id("step"),
    Column("index", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    _text("nonce"),
    _text("phase"),
    _text("reason"),
    Column("exit_code", BigInteger, nullable=True),
    _text("error"),
    _text("log", None),
    _count("log_truncated"),
    _id("started_at"),
    _time("finished_at"),
    PrimaryKeyConstraint("run", "step", "index", "number"),
    sqlite_with_rowid=False,
)

OF_A_RUN = text("run <> ''")
"""Said in every query by run, for the same reason as `ACTIVE`."""

event = Table(
    "event",
    metadata,
    # AUTOINCREMENT: an id is never used again, so a reader may resume after the last one it saw.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _id("at"),
    _id("reason"),
    _id("source"),
    _id("workflow"),
    _id("run"),
    _id("step"),
    _text("message"),
    _text("data"),
    Index("event_by_run", "run", sqlite_where=OF_A_RUN),
    Index("event_by_workflow", "source", "workflow"),
    sqlite_autoincrement=True,
)

workflow = Table(
    "workflow",
    metadata,
    _id("source"),
    _id("name"),
    _text("file"),
    _count("generation"),
    _count("observed_generation"),
    _count("change"),
    _text("spec_digest"),
    _text("inputs"),
    _text("revision"),
    _count("suspended"),
    _count("retired"),
    _count("valid"),
    _text("conditions"),
    _text("sync"),
    _text("health"),
    _text("last_run", None),
    _text("last_phase", None),
    _time("last_success_at"),
    _time("last_failure_at"),
    _id("blob"),
    Column("document", Integer, nullable=False),
    _count("answered_change"),
    _text("suspension", None),  # JSON
    Column("failures", BigInteger, nullable=False, server_default="0"),
    _time("watched_since"),
    PrimaryKeyConstraint("source", "name"),
)

schedule = Table(
    "schedule",
    metadata,
    _id("source"),
    _id("workflow"),
    _id("schedule"),
    _id("through"),
    _text("last_key", None),  # of the run that succeeded last
    PrimaryKeyConstraint("source", "workflow", "schedule"),
    sqlite_with_rowid=False,
)

source = Table(
    "source",
    metadata,
    Column("name", Text, primary_key=True),
    _text("kind"),
    _text("location"),
    _text("ref"),
    _count("generation"),
    _count("observed_generation"),
    _text("last_attempted_revision"),
    _text("last_applied_revision"),
    _count("suspended"),
    _text("conditions"),
    _text("sync"),
    _text("health"),
    _count("workflows"),
    _time("last_success_at"),
    _text("suspension", None),  # JSON
    _text("history", None),  # JSON
)

instance = Table(
    "instance",
    metadata,
    Column("id", Text, primary_key=True),
    _text("kind"),
    _count("pid"),
    _text("host"),
    _id("started_at"),
)

parsed = Table(
    "parsed",
    metadata,
    _id("blob"),
    _id("version"),
    _text("text"),
    _id("used_at"),
    PrimaryKeyConstraint("blob", "version"),
)

parsed_body = Table(
    "parsed_body",
    metadata,
    _id("blob"),
    _id("version"),
    Column("document", Integer, nullable=False),
    _text("body"),
    PrimaryKeyConstraint("blob", "version", "document"),
)

blob = Table(
    "blob",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    _text("kind"),  # log, file, folder
    _id("created_at"),
    sqlite_with_rowid=False,
)

cache_entry = Table(
    "cache_entry",
    metadata,
    _id("key"),
    _id("source"),
    _id("ref"),
    _id("workflow"),
    _id("step"),
    _id("run"),
    Column("exit_code", Integer, nullable=False),
    _text("parts"),
    _text("outputs"),
    _text("artifacts"),
    _text("log", None),
    _count("log_truncated"),
    Column("seconds", Float, nullable=False),
    _count("size"),
    _id("created_at"),
    _id("last_used_at"),
    _id("expires_at"),
    # The key first: one look finds it in every scope.
    PrimaryKeyConstraint("key", "source", "ref"),
    Index("cache_entry_by_step", "source", "ref", "workflow", "step", "created_at"),
    Index("cache_entry_by_use", "last_used_at"),
)

kept_input = Table(
    "kept_input",
    metadata,
    Column("digest", Text, primary_key=True),
    _id("blob"),
    _count("size"),
    _id("created_at"),
)

delivery = Table(
    "delivery",
    metadata,
    _id("receiver"),
    _id("mark"),  # its id, or the digest of what was signed
    _id("at"),
    PrimaryKeyConstraint("receiver", "mark"),
    Index("delivery_by_time", "at"),
)

token = Table(
    "token",
    metadata,
    Column("name", Text, primary_key=True),
    _id("role"),
    _id("hash"),
    _id("created_at"),
    _time("expires_at"),
    Index("token_by_hash", "hash", unique=True),
)

history_limit = Table(
    "history_limit",
    metadata,
    _id("source"),
    _id("workflow"),
    Column("successful", Integer, nullable=True),  # None: as many as the configuration says
    Column("failed", Integer, nullable=True),
    _count("keep_last"),
    PrimaryKeyConstraint("source", "workflow"),
)

word = Table(
    "word",
    metadata,
    Column("id", Text, primary_key=True),
    _id("alert"),
    _id("occasion"),
    _id("source"),
    _id("workflow"),
    _id("run"),
    _text("text"),
    _id("at"),
    Index("word_by_alert", "alert", "at"),
)

trouble = Table(
    "trouble",
    metadata,
    _id("source"),
    _id("workflow"),  # "": the source itself
    _id("subject"),
    _id("state"),
    _id("since"),
    PrimaryKeyConstraint("source", "workflow", "subject"),
)

IS_UNSAID = "number > said_number"

commit_status = Table(
    "commit_status",
    metadata,
    _id("source"),
    _id("commit_id"),
    _id("workflow"),  # "": the source as a whole
    _id("state"),
    _text("text"),
    _id("run"),
    _id("at"),
    _count("number"),  # of its changes, those of the workflows counted with the source's own
    _count("said_number"),  # the change that the forge knows
    _text("said"),  # what it was told
    PrimaryKeyConstraint("source", "commit_id", "workflow"),
    Index("commit_status_unsaid", "source", sqlite_where=text(IS_UNSAID)),
    Index("commit_status_by_time", "at"),
)
