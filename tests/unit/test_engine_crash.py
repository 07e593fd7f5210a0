"""A controller killed at any point of any graph: settled, retried, it ends as if nothing had been."""

import asyncio
from dataclasses import replace

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from controller.model.changes import FinishAttempt, FinishRun, PutStep, StartAttempt, StartRun
from controller.model.run import Phase
from controller.model.workflow import Workflow
from controller.reconcile.rerun import retried
from tests.unit.test_engine_graphs import RUN, Book, Imagined, engine, expected, graphs


class Mortal(Book):
    """A ledger whose process is killed at its nth transaction, before or after the commit."""

    def __init__(self, nth, *, after):
        super().__init__()
        self.left, self.after, self.dead = nth, after, asyncio.Event()

    async def record(self, *changes):
        self.left -= 1
        if self.left < 0 or self.dead.is_set():
            if self.after and not self.dead.is_set():
                self.changes += changes
            self.dead.set()
            await asyncio.Event().wait()  # nobody is told of anything any more
        return await super().record(*changes)


def world(changes, steps=()):
    """Return the rows and attempts that the changes have left behind."""
    rows = {row.name: row for row in steps}
    attempts = {}
    for change in changes:
        match change:
            case StartRun(steps=begun):
                rows |= {row.name: row for row in begun}
            case StartAttempt(attempt=one):
                rows[one.step] = replace(rows[one.step], phase=Phase.RUNNING, attempts=one.number)
                attempts[one.step, one.number] = one
            case FinishAttempt(attempt=one):
                attempts[one.step, one.number] = one
            case PutStep(step=row):
                rows[row.name] = row
    return list(rows.values()), list(attempts.values())


def ending(changes):
    return next((one for one in reversed(changes) if isinstance(one, FinishRun)), None)


async def killed(tmp_path, wanted, endings, nth, *, after):
    """Execute until the process is killed; return what was written, None when it came to an end."""
    book = Mortal(nth, after=after)
    run = asyncio.create_task(engine(book, Imagined(endings), tmp_path, 3).execute(RUN, wanted))
    death = asyncio.create_task(book.dead.wait())
    await asyncio.wait({run, death}, return_when=asyncio.FIRST_COMPLETED)
    over = run.done()
    for task in (run, death):
        task.cancel()
    await asyncio.gather(run, death, return_exceptions=True)
    return None if over else book.changes


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs(), nth=st.integers(0, 12), after=st.booleans())
def test_a_retry_after_a_crash_ends_like_an_undisturbed_run(graph, nth, after, tmp_path):
    steps, endings = graph
    asyncio.run(crashed_and_retried(steps, endings, nth, after, tmp_path))


async def crashed_and_retried(steps, endings, nth, after, tmp_path):
    wanted = Workflow(name="w", steps=tuple(steps))
    written = await killed(tmp_path, wanted, endings, nth, after=after)
    if written is None or ending(written):
        return
    rows, attempts = world(written)
    if not any(isinstance(change, StartRun) for change in written):
        assert not attempts, "no attempt before its run has started"
        return  # it goes back to Pending: nothing was begun
    succeeded = {row.name for row in rows if row.phase is Phase.SUCCEEDED}

    book = Book()
    phase = await engine(book, Imagined(endings), tmp_path, 3).recover(RUN, wanted, rows, attempts)
    rows, _ = world(book.changes, rows)
    assert phase is Phase.INTERRUPTED
    assert all(row.phase.terminal for row in rows)
    assert not any(isinstance(change, StartAttempt) for change in book.changes), "no hooks here"
    assert {row.name for row in rows if row.phase is Phase.SUCCEEDED} == succeeded

    event("a run was retried")
    again = retried(replace(RUN, phase=phase), rows, RUN.created_at)
    book, executor = Book(), Imagined(endings)
    await engine(book, executor, tmp_path, 3).execute(again.run, wanted, again.steps)
    rows, _ = world(book.changes, again.steps)
    assert {row.name: row.phase for row in rows} == expected(steps, endings)
    assert not succeeded & set(executor.order), "what succeeded stays"
