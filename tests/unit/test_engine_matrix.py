"""Random graphs with matrix steps through the whole engine, with an executor in memory."""

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.model.changes import FinishAttempt, PutStep, StartAttempt, StartRun
from controller.model.run import Phase
from controller.model.workflow import Matrix, Step, Workflow
from tests.unit.test_engine_graphs import RUN, Book, Imagined, engine


class Counted(Imagined):
    """Each attempt ends by its step's list of endings; how many run is counted by step."""

    def __init__(self, endings):
        super().__init__(endings)
        self.now: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()

    def ending(self, request):
        return ending_of(self.endings, request.step, request.index)

    async def attempt(self, request, output):
        name = request.step
        self.now[name] += 1
        self.peak[name] = max(self.peak[name], self.now[name])
        try:
            return await super().attempt(request, output)
        finally:
            self.now[name] -= 1


def ending_of(endings, step, index):
    return endings[step][index % len(endings[step])]


ENDINGS = st.lists(st.sampled_from(["ok", "ok", "ok", "failed", "error"]), min_size=1, max_size=4)
WHENS = st.sampled_from([None, None, "${{ true }}", "${{ matrix.n != 1 }}", "${{ matrix.n > 9 }}"])


@st.composite
def matrices(draw):
    values = list(range(draw(st.integers(0, 5))))
    words = {
        "max_parallel": draw(st.one_of(st.none(), st.integers(1, 3))),
        "fail_fast": draw(st.booleans()),
    }
    if draw(st.booleans()):
        return Matrix(axes={"n": values}, **words)
    return Matrix(each=f"${{{{ {values} }}}}", item="n", **words)


@st.composite
def graphs(draw):
    steps, endings = [], {}
    for number in range(draw(st.integers(1, 6))):
        before = [f"s{other}" for other in range(number)]
        needs = draw(st.lists(st.sampled_from(before), unique=True, max_size=2)) if before else []
        matrix = draw(st.one_of(st.none(), matrices()))
        endings[f"s{number}"] = draw(ENDINGS)
        steps.append(
            Step(
                name=f"s{number}",
                script="x",
                needs=tuple(needs),
                matrix=matrix,
                when=draw(WHENS) if matrix else None,
                continue_on_error=draw(st.booleans()),
            )
        )
    return Workflow(name="w", steps=tuple(draw(st.permutations(steps)))), endings


def ends(book):
    """Return how often each row has ended, and the last of its rows."""
    last = [row for c in book.changes if isinstance(c, StartRun) for row in c.steps]
    put = [c.step for c in book.changes if isinstance(c, PutStep)]
    times = Counter((row.name, row.index) for row in put if row.phase.terminal)
    return times, {(row.name, row.index): row for row in (*last, *put)}


def check_rows(wanted, book):
    times, rows = ends(book)
    assert set(times) == set(rows)
    assert set(times.values()) <= {1}
    assert all(row.phase.terminal for row in rows.values())
    for step in wanted.every_step:
        assert [key for key in sorted(rows) if key[0] == step.name] == [
            (step.name, index) for index, _ in zip(count(), of(rows, step.name), strict=False)
        ]
        if step.matrix is not None and all(row.matrix is not None for row in of(rows, step.name)):
            assert [row.matrix for row in of(rows, step.name)] == [
                {"n": index} for index in range(len(of(rows, step.name)))
            ]
    attempts = [c.attempt for c in book.changes if isinstance(c, StartAttempt)]
    over = [c.attempt for c in book.changes if isinstance(c, FinishAttempt)]
    assert Counter((a.step, a.index) for a in attempts) == Counter((a.step, a.index) for a in over)
    return rows


def of(rows, name):
    return [row for (step, _), row in sorted(rows.items()) if step == name]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    graph=graphs(), limit=st.one_of(st.none(), st.integers(1, 3)), slots=st.sampled_from([1, 3, 9])
)
def test_every_combination_ends_exactly_once_within_the_limits(graph, limit, slots, tmp_path):
    wanted, endings = graph
    book, executor = Book(), Counted(endings)
    phase = asyncio.run(
        engine(book, executor, tmp_path, slots).execute(RUN, replace(wanted, max_parallel=limit))
    )

    rows = check_rows(wanted, book)
    assert executor.most <= min(limit or 99, slots)
    for step in wanted.steps:
        if step.matrix is not None and step.matrix.max_parallel:
            assert executor.peak[step.name] <= step.matrix.max_parallel
        failed = [row for row in of(rows, step.name) if row.phase in {Phase.FAILED, Phase.ERROR}]
        stopped = [row for row in of(rows, step.name) if row.phase is Phase.CANCELLED]
        if stopped:
            assert failed
            assert step.matrix.fail_fast
            assert not step.continue_on_error
            assert {row.reason for row in stopped} == {"FailFast"}
        for row in of(rows, step.name):
            if row.phase is not Phase.CANCELLED:
                assert told(row) == expected(wanted, step, row, rows, endings)
    counted = {row.phase for row in rows.values() if not wanted.step(row.name).continue_on_error}
    worst = next((one for one in (Phase.ERROR, Phase.FAILED) if one in counted), Phase.SUCCEEDED)
    assert phase is worst
    check_order(wanted, book)


def told(row):
    return f"{row.phase}/{row.reason}" if row.phase is Phase.SKIPPED else str(row.phase)


def expected(wanted, step, row, rows, endings):
    """Return what becomes of a row, given what became of the rows it waits for."""
    if any(stands_in_the_way(wanted.step(need), of(rows, need)) for need in step.needs):
        return "Skipped/DependencyFailed"
    if step.matrix is not None and row.matrix is None:
        return "Succeeded"  # no combinations
    number = (row.matrix or {}).get("n")
    if step.when == "${{ matrix.n != 1 }}" and number == 1:
        return "Skipped/ConditionFalse"
    if step.when == "${{ matrix.n > 9 }}":
        return "Skipped/ConditionFalse"
    told = {"ok": "Succeeded", "failed": "Failed", "error": "Error"}
    return told[ending_of(endings, step.name, row.index)]


def stands_in_the_way(need, rows):
    return any(
        told(row) == "Skipped/DependencyFailed" or (row.phase.bad and not need.continue_on_error)
        for row in rows
    )


def check_order(wanted, book):
    """Nothing starts before every combination of what it needs has ended."""
    open_rows = {
        (row.name, row.index) for c in book.changes if isinstance(c, StartRun) for row in c.steps
    }
    for change in book.changes:
        if isinstance(change, PutStep):
            key = (change.step.name, change.step.index)
            (open_rows.discard if change.step.phase.terminal else open_rows.add)(key)
        elif isinstance(change, StartAttempt):
            needs = wanted.step(change.attempt.step).needs
            assert not {name for name, _ in open_rows} & set(needs)
            assert (change.attempt.step, change.attempt.index) in open_rows


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    graph=graphs(),
    moment=st.integers(0, 60),
    now=st.booleans(),
    slots=st.sampled_from([1, 3, 9]),
)
def test_a_cancel_at_any_moment_ends_every_combination_once(graph, moment, now, slots, tmp_path):
    wanted, endings = graph
    last = Step(name="z", script="x", matrix=Matrix(each="${{ [0, 1] }}", item="n"))
    wanted, endings = replace(wanted, finally_=(last,)), {**endings, "z": ["ok"]}
    book, executor = Book(), Counted(endings)

    async def main():
        one = engine(book, executor, tmp_path, slots)
        task = asyncio.create_task(one.execute(RUN, wanted))
        for _ in range(moment):
            await asyncio.sleep(0)
        one.cancel(RUN.id, now=now)
        async with asyncio.timeout(5):
            await task
        assert one._house.slots._free == slots

    asyncio.run(main())
    check_rows(wanted, book)
    assert executor.running == 0
