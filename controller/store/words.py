"""Words to the outside, as rows: those that wait, what is wrong, what commits are to be told."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import and_, delete, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from controller.model import changes as c
from controller.model.word import CommitState, CommitStatus, Word
from controller.store import tables as t
from controller.store.rows import Values, clean, time_text
from controller.store.statements import Query, compiled, given
from controller.store.transaction import Transaction

KEPT = timedelta(days=30)
"""How long a commit's states are kept once they have been told."""

_TROUBLE, _STATUS = t.trouble.c, t.commit_status.c


def put(tx: Transaction, change: c.PutWord) -> bool:
    """Keep a word until it is told. No event: what it tells of has its own."""
    return tx.change(_put_word(), _word_values(change.word))


def put_trouble(tx: Transaction, change: c.PutTrouble) -> bool:
    """Note what is wrong; its words are kept when it is new, or another state."""
    values = {
        "source": change.source,
        "workflow": change.workflow,
        "subject": change.subject,
        "state": change.state,
        "since": time_text(change.at),
    }
    if not tx.change(_put_trouble(), values):
        return False
    tx.change_many(_put_word(), map(_word_values, change.words))
    return True


def end_troubles(tx: Transaction, change: c.EndTroubles) -> bool:
    """Forget what was wrong; the words are kept when anything was."""
    key = {"k_source": change.source, "k_workflow": change.workflow}
    keys = [{**key, "k_subject": subject} for subject in change.subjects]
    if not tx.change_many(_end_trouble(), keys):
        return False
    tx.change_many(_put_word(), map(_word_values, change.words))
    return True


def forget_source(tx: Transaction, source: str) -> None:
    """Nothing is wrong with a source that is gone."""
    tx.change(_forget_troubles(), {"k_source": source})


def put_status(tx: Transaction, change: c.PutCommitStatus) -> bool:
    """Note what a commit is to be told; the summary under its source's name is told anew."""
    one = change.status
    key = {"k_source": one.source, "k_commit_id": one.commit, "k_workflow": one.workflow}
    if change.unless is not c.Unless.NOTHING:
        known = bool(tx.rows(_known(), key))
        if known is (change.unless is c.Unless.KNOWN):
            return False
    if not tx.change(_put_status(), _status_values(one)):
        return False
    if one.workflow:
        _tell_summary(tx, one)
    return True


def overtake(tx: Transaction, change: c.OvertakeCommits) -> bool:
    """Note that commits are looked at no more; those whose work has begun go on."""
    values = {
        "k_source": change.source,
        "k_commit_id": change.commit,
        "pending": CommitState.PENDING.value,
        "state": CommitState.CANCELLED.value,
        "text": change.text,
        "at": time_text(change.at),
    }
    return tx.change(_overtake(), values)


def drop_old(now: datetime) -> Callable[[Transaction], int]:
    """Return the call that forgets the states of commits that were told long ago."""
    return lambda tx: tx.change_many(_drop_old(), [{"before": time_text(now - KEPT)}])


def _tell_summary(tx: Transaction, one: CommitStatus) -> None:
    """A commit whose source has said nothing was looked at before its statuses were wanted."""
    own = CommitStatus(source=one.source, commit=one.commit, state=CommitState.SUCCESS, at=one.at)
    if not tx.change(_put_first(), _status_values(own)):
        tx.change(_count_up(), {"k_source": one.source, "k_commit_id": one.commit})


def _word_values(one: Word) -> Values:
    return {
        "id": one.id,
        "alert": one.alert,
        "occasion": one.occasion.value,
        "source": one.source,
        "workflow": one.workflow,
        "run": one.run,
        "text": clean(one.text),
        "at": time_text(one.at),
    }


def _status_values(one: CommitStatus) -> Values:
    return {
        "source": one.source,
        "commit_id": one.commit,
        "workflow": one.workflow,
        "state": one.state.value,
        "text": clean(one.text),
        "run": one.run,
        "at": time_text(one.at),
        "number": 1,
        "said_number": 0,
        "said": "",
    }


@cache
def _put_word() -> Query:
    return compiled(insert(t.word).on_conflict_do_nothing())


@cache
def _put_trouble() -> Query:
    put = insert(t.trouble)
    return compiled(
        put.on_conflict_do_update(
            index_elements=list(t.trouble.primary_key),
            set_={"state": put.excluded.state, "since": put.excluded.since},
            where=_TROUBLE.state != put.excluded.state,
        )
    )


@cache
def _end_trouble() -> Query:
    own = (_TROUBLE.source == given("k_source"), _TROUBLE.workflow == given("k_workflow"))
    return compiled(delete(t.trouble).where(*own, _TROUBLE.subject == given("k_subject")))


@cache
def _forget_troubles() -> Query:
    return compiled(delete(t.trouble).where(_TROUBLE.source == given("k_source")))


@cache
def _known() -> Query:
    own = (
        _STATUS.source == given("k_source"),
        _STATUS.commit_id == given("k_commit_id"),
        _STATUS.workflow == given("k_workflow"),
    )
    return compiled(select(_STATUS.state).where(*own))


@cache
def _put_status() -> Query:
    put = insert(t.commit_status)
    new = ("state", "text", "run", "at")
    told = (_STATUS.state != put.excluded.state, _STATUS.text != put.excluded.text)
    return compiled(
        put.on_conflict_do_update(
            index_elements=list(t.commit_status.primary_key),
            set_={name: put.excluded[name] for name in new} | {"number": _STATUS.number + 1},
            where=or_(*told, _STATUS.run != put.excluded.run),
        )
    )


@cache
def _put_first() -> Query:
    return compiled(insert(t.commit_status).on_conflict_do_nothing())


@cache
def _count_up() -> Query:
    own = and_(
        _STATUS.source == given("k_source"),
        _STATUS.commit_id == given("k_commit_id"),
        _STATUS.workflow == "",
    )
    return compiled(update(t.commit_status).where(own).values(number=_STATUS.number + 1))


@cache
def _drop_old() -> Query:
    said = (_STATUS.at < given("before"), _STATUS.number == _STATUS.said_number)
    return compiled(delete(t.commit_status).where(*said))


@cache
def _overtake() -> Query:
    others = (
        _STATUS.source == given("k_source"),
        _STATUS.commit_id != given("k_commit_id"),
        _STATUS.workflow == "",
        _STATUS.state == given("pending"),
    )
    new = {name: given(name) for name in ("state", "text", "at")}
    return compiled(update(t.commit_status).where(*others).values(**new, number=_STATUS.number + 1))
