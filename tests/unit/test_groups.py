"""Who may start, when workflows share limits: never above one, and never idle for nothing."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.manifest import parse_file
from controller.model.run import Run, Trigger
from controller.model.source import Snapshot
from controller.model.workflow import ConcurrencyPolicy
from controller.reconcile import desired
from controller.reconcile.runs import GroupLimit, claimable

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)


def waiting(number, workflow, **fields):
    return Run(
        id=f"{workflow}-{number:03}",
        source="s",
        workflow=workflow,
        trigger=Trigger.SCHEDULE,
        identity=f"{number}",
        created_at=NOON + timedelta(seconds=number),
        **fields,
    )


def choose(pending, running=(), *, limits, policy=ConcurrencyPolicy.ALLOW, max_runs=100):
    return claimable(
        pending,
        running,
        max_runs=max_runs,
        now=NOON + timedelta(hours=1),
        policy=lambda _: policy,
        group_limit=lambda key: limits.get(key[1]),
    )


def test_a_full_group_holds_back_its_own_and_no_others():
    limits = {"a": GroupLimit("s/g", 1), "b": GroupLimit("s/g", 1)}
    choice = choose([waiting(0, "a"), waiting(1, "b"), waiting(2, "c")], limits=limits)
    assert [run.id for run in choice.start] == ["a-000", "c-002"]
    assert choice.start[0].group == "s/g"
    assert choice.start[1].group is None
    assert choice.waiting == {"b-001": "the group s/g is full (1)"}


def test_who_waits_longest_comes_first_but_for_priority():
    limits = dict.fromkeys("abc", GroupLimit("s/g", 1))
    pending = [waiting(0, "a"), waiting(1, "b"), waiting(2, "c", priority=1)]
    assert [run.id for run in choose(pending, limits=limits).start] == ["c-002"]
    assert [run.id for run in choose(pending[:2], limits=limits).start] == ["a-000"]


def test_a_place_is_counted_where_the_run_took_it_also_when_the_group_was_renamed():
    held = waiting(0, "a", group="s/old", instance="i")
    limits = {"a": GroupLimit("s/new", 1), "b": GroupLimit("s/old", 1)}
    assert choose([waiting(1, "b")], [held], limits=limits).start == ()
    assert choose([waiting(1, "a")], [held], limits=limits).start != ()


LIMITS = st.dictionaries(
    st.sampled_from("abcdef"),
    st.builds(GroupLimit, st.sampled_from(["s/g", "s/h", "shared"]), st.just(2)),
)
RUNS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(-2, 2), st.booleans()), max_size=40
)


@settings(max_examples=300, deadline=None)
@given(RUNS, LIMITS, st.sampled_from(ConcurrencyPolicy), st.integers(0, 12))
def test_no_limit_is_passed_and_nothing_waits_that_could_start(rows, limits, policy, max_runs):
    running: list[Run] = []
    pending: list[Run] = []
    for number, (workflow, priority, claimed) in enumerate(rows):
        run = waiting(number, workflow, priority=priority)
        if claimed:
            made = choose([run], running, limits=limits, policy=policy, max_runs=max_runs)
            running += made.start
        else:
            pending.append(run)
    choice = choose(pending, running, limits=limits, policy=policy, max_runs=max_runs)
    active = [*running, *choice.start]
    held = Counter(run.group for run in active if run.group)
    assert len(active) <= max_runs
    assert all(held[one.group] <= one.limit for one in limits.values())
    assert {run.id for run in choice.start} | {run.id for run in choice.rest} == {
        run.id for run in pending
    }
    for left in choice.rest:
        assert choose([left], active, limits=limits, policy=policy, max_runs=max_runs).start == ()


# The limit of a group, as the files of a source say it.

EMPTY = desired.Loaded.empty("s")
ANY = Snapshot(source="s", revision="r", entries={})


def member(limit: int | None = None, script: str = "exit") -> str:
    said = f", limit: {limit}" if limit else ""
    return f"concurrency: {{group: g{said}}}, steps: [{{name: a, script: {script}}}]"


def load(loaded: desired.Loaded, **specs: str | None) -> desired.Loaded:
    head = "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {name: %s}\nspec: {%s}\n"
    texts = {name: head % (name, spec) if spec else None for name, spec in specs.items()}
    parsed = {
        f"{name}.yaml": parse_file(f"{name}.yaml", text.encode(), source="s") if text else None
        for name, text in texts.items()
    }
    return desired.advance(loaded, ANY, parsed)


def test_a_text_that_breaks_puts_none_of_its_group_at_fault():
    loaded = load(EMPTY, a=member(2), b=member())
    broken = load(loaded, a="stepz: []")
    assert set(broken.invalid) == {"a"}
    assert broken.limits == {"g": 2}
    edited = load(broken, b=member(script="echo"))
    assert set(edited.invalid) == {"a"}
    assert edited.changed == {"b"}


def test_a_group_whose_limit_goes_keeps_it_and_its_workflows_are_at_fault():
    loaded = load(load(EMPTY, a=member(2), b=member()), a=None)
    assert "no limit" in loaded.invalid["b"].problem
    assert loaded.limits == {"g": 2}
    mended = load(loaded, c=member(3))
    assert mended.invalid == {}
    assert mended.limits == {"g": 3}


def test_two_limits_keep_both_workflows_on_their_last_text():
    loaded = load(EMPTY, a=member(2), b=member(2))
    torn = load(loaded, b=member(3))
    assert set(torn.invalid) == {"a", "b"}
    assert torn.limits == {"g": 2}
    assert load(torn, a=member(3)).limits == {"g": 3}


def test_without_a_configuration_a_group_may_have_its_limit_there():
    unknown = desired.Loaded.empty("s", groups=None)
    assert load(unknown, a=member()).invalid == {}
