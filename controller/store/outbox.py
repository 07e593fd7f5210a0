"""What waits to be told, for those who tell it: read, then told or given up."""

from collections.abc import Collection, Iterable, Mapping
from functools import cache

from sqlalchemy import delete, func, select, text, update

from controller.model.run import Event
from controller.model.word import CommitState, CommitStatus, Occasion, Unsaid, Word
from controller.store import tables as t
from controller.store.rows import Row, clean, read_time
from controller.store.statements import Query, compiled, given, number
from controller.store.store import Store
from controller.store.transaction import Transaction

_WORD, _STATUS = t.word.c, t.commit_status.c
_UNSAID = text(t.IS_UNSAID)
_OF_COMMIT = (
    _STATUS.source == given("source"),
    _STATUS.commit_id == given("commit_id"),
    _STATUS.workflow != "",
)


class Outbox:
    """Implements `notify.ports.Outbox` on the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def waiting(self) -> tuple[Collection[str], Collection[str]]:
        """Return the alerts, and the sources, that have something to tell."""
        alerts, sources = await self._store.read(
            lambda reader: (reader.rows(_alerts(), {}), reader.rows(_sources(), {}))
        )
        return [name for (name,) in alerts], [name for (name,) in sources]

    async def words(self, alert: str, limit: int) -> list[Word]:
        """Return what an alert has to tell, the oldest first."""
        values = {"alert": alert, "limit": limit}
        rows = await self._store.read(lambda reader: reader.rows(_words(), values))
        return [_word(row) for row in rows]

    async def statuses(self, source: str, limit: int) -> list[Unsaid]:
        """Return what a source's commits are to be told: the oldest first, summaries last."""
        values = {"source": source, "limit": limit}
        rows = await self._store.read(lambda reader: reader.rows(_unsaid(), values))
        return [_unsaid_of(row) for row in rows]

    async def work(
        self, source: str, commit: str, names: int
    ) -> tuple[Mapping[CommitState, int], list[str]]:
        """Return how many workflows of a commit are in which state, and some that went badly."""
        values = {"source": source, "commit_id": commit, "limit": names}
        counts, bad = await self._store.read(
            lambda reader: (reader.rows(_counts(), values), reader.rows(_bad(), values))
        )
        return {CommitState(state): count for state, count in counts}, [name for (name,) in bad]

    async def drop_words(self, words: Iterable[Word], events: Iterable[Event] = ()) -> None:
        """Forget words that were told, or given up as the events say."""
        keys, told = [{"k_id": one.id} for one in words], tuple(events)

        def call(tx: Transaction) -> None:
            tx.change_many(_drop_word(), keys)
            for event in told:
                tx.tell(event)

        await self._store.write(call)

    async def note_said(self, one: Unsaid, said: str, events: Iterable[Event] = ()) -> None:
        """Note that a forge knows, or will never know, this change of a status."""
        status, told = one.status, tuple(events)
        key = {
            "k_source": status.source,
            "k_commit_id": status.commit,
            "k_workflow": status.workflow,
        }

        def call(tx: Transaction) -> None:
            tx.change(_note_said(), {**key, "said": clean(said), "number": one.number})
            for event in told:
                tx.tell(event)

        await self._store.write(call)


def _word(row: Row) -> Word:
    return Word(
        id=row[0],
        alert=row[1],
        occasion=Occasion(row[2]),
        source=row[3],
        workflow=row[4],
        run=row[5],
        text=row[6],
        at=read_time(row[7]),
    )


def _unsaid_of(row: Row) -> Unsaid:
    status = CommitStatus(
        source=row[0],
        commit=row[1],
        workflow=row[2],
        state=CommitState(row[3]),
        text=row[4],
        run=row[5],
        at=read_time(row[6]),
    )
    return Unsaid(status=status, number=row[7], told=row[9])


@cache
def _alerts() -> Query:
    return compiled(select(_WORD.alert).distinct().order_by(_WORD.alert))


@cache
def _sources() -> Query:
    return compiled(select(_STATUS.source).where(_UNSAID).distinct().order_by(_STATUS.source))


@cache
def _words() -> Query:
    own = select(t.word).where(_WORD.alert == given("alert"))
    return compiled(
        own.order_by(_WORD.at, _WORD.source, _WORD.workflow, _WORD.id).limit(number("limit"))
    )


@cache
def _unsaid() -> Query:
    own = select(t.commit_status).where(_STATUS.source == given("source"), _UNSAID)
    order = (_STATUS.workflow == "", _STATUS.at, _STATUS.commit_id, _STATUS.workflow)
    return compiled(own.order_by(*order).limit(number("limit")))


@cache
def _counts() -> Query:
    own = select(_STATUS.state, func.count()).where(*_OF_COMMIT)
    return compiled(own.group_by(_STATUS.state))


@cache
def _bad() -> Query:
    good = (CommitState.PENDING, CommitState.SUCCESS)
    own = select(_STATUS.workflow).where(*_OF_COMMIT, *(_STATUS.state != one for one in good))
    return compiled(own.order_by(_STATUS.workflow).limit(number("limit")))


@cache
def _drop_word() -> Query:
    return compiled(delete(t.word).where(_WORD.id == given("k_id")))


@cache
def _note_said() -> Query:
    own = (
        _STATUS.source == given("k_source"),
        _STATUS.commit_id == given("k_commit_id"),
        _STATUS.workflow == given("k_workflow"),
    )
    said = {"said": given("said"), "said_number": number("number")}
    return compiled(update(t.commit_status).where(*own).values(**said))
