"""Queue, keys, retries, runs that wait, desired state: the small decisions."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.manifest import parse_file
from controller.model.run import Run, Trigger
from controller.model.source import Entry, Fault, ParsedFile, Snapshot
from controller.model.workflow import Backoff, ConcurrencyPolicy, Input, Retry, RetryPolicy
from controller.reconcile import desired
from controller.reconcile.keys import Index, input_digest, within
from controller.reconcile.queue import WorkQueue
from controller.reconcile.retry import Ending, again, delay
from controller.reconcile.runs import claimable

NOON = datetime(2027, 3, 10, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


# The queue.


def test_a_key_that_is_added_twice_is_looked_at_once():
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("b")
    queue.add("a")
    assert queue.pop_ready(NOON) == ["a", "b"]
    assert queue.pop_ready(NOON) == []


def test_a_newer_wake_up_replaces_the_older_one():
    queue: WorkQueue[str] = WorkQueue()
    queue.add_at("a", NOON + SECOND)
    queue.add_at("a", NOON + 2 * SECOND)
    assert queue.next_at() == NOON + 2 * SECOND
    assert queue.pop_ready(NOON + SECOND) == []
    assert queue.pop_ready(NOON + 2 * SECOND) == ["a"]
    assert queue.next_at() is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 50))))
def test_every_key_wakes_at_its_last_word(words):
    queue: WorkQueue[int] = WorkQueue()
    last = {}
    for key, seconds in words:
        queue.add_at(key, NOON + seconds * SECOND)
        last[key] = seconds
    for seconds in range(51):
        woken = set(queue.pop_ready(NOON + seconds * SECOND))
        assert woken == {key for key, when in last.items() if when == seconds}


# Keys.

FILES = {
    "reports/a.py": Entry("100644", "1" * 40),
    "reports/deep/b.py": Entry("100755", "2" * 40),
    "reports/notes.md": Entry("100644", "3" * 40),
    "reports2/c.py": Entry("100644", "4" * 40),
    "top.txt": Entry("100644", "5" * 40),
}


def test_an_input_holds_what_is_below_its_path_and_not_ignored():
    wanted = Input(name="src", path="reports/", ignore=("*.md",))
    assert set(Index(FILES).select(wanted)) == {"a.py", "deep/b.py"}


def test_an_input_may_be_one_file_or_everything():
    assert set(Index(FILES).select(Input(name="x", path="top.txt"))) == {""}
    assert set(Index(FILES).select(Input(name="x", path="."))) == set(FILES)


def test_the_digest_follows_mode_path_and_content_only():
    wanted = Input(name="src", path="reports")
    first = input_digest(FILES, wanted)
    assert input_digest(dict(reversed(FILES.items())), wanted) == first
    assert input_digest({**FILES, "top.txt": Entry("100644", "9" * 40)}, wanted) == first
    for changed in (
        {"reports/a.py": Entry("100755", "1" * 40)},
        {"reports/a.py": Entry("100644", "9" * 40)},
        {"reports/z.py": Entry("100644", "1" * 40)},
    ):
        assert input_digest({**FILES, **changed}, wanted) != first


def test_nothing_there_has_no_digest():
    assert input_digest(FILES, Input(name="x", path="nowhere")) is None


def test_a_folder_is_not_its_longer_sister():
    assert within("reports/a", "reports")
    assert not within("reports2/a", "reports")


# Retries.


@pytest.mark.parametrize(
    ("retry", "ending", "code", "tried", "expected"),
    [
        pytest.param(Retry(), Ending.FAILED, 1, 1, False, id="none-by-default"),
        pytest.param(Retry(limit=2), Ending.FAILED, 1, 1, True, id="a-failure-is"),
        pytest.param(Retry(limit=2), Ending.FAILED, 1, 3, False, id="not-over-the-limit"),
        pytest.param(Retry(limit=2), Ending.ERROR, None, 1, False, id="an-error-is-not-a-failure"),
        pytest.param(
            Retry(limit=2, policy=RetryPolicy.ALWAYS), Ending.ERROR, None, 1, True, id="always-is"
        ),
        pytest.param(
            Retry(limit=2, exit_codes=(75,)), Ending.FAILED, 1, 1, False, id="another-exit-code"
        ),
        pytest.param(
            Retry(limit=2, exit_codes=(75,)), Ending.FAILED, 75, 1, True, id="its-exit-code"
        ),
        pytest.param(
            Retry(limit=2, exit_codes=(75,)), Ending.FAILED, None, 1, True, id="a-timeout-has-none"
        ),
        pytest.param(Retry(limit=2), Ending.SUCCEEDED, 0, 1, False, id="a-success-never"),
        pytest.param(
            Retry(limit=9, max_elapsed=SECOND), Ending.FAILED, 1, 1, False, id="out-of-time"
        ),
    ],
)
def test_whether_an_attempt_is_tried_again(retry, ending, code, tried, expected):
    elapsed = 2 * SECOND
    assert again(retry, ending, exit_code=code, tried=tried, elapsed=elapsed) is expected


@given(st.integers(1, 200), st.text(max_size=5))
def test_the_wait_is_jittered_below_the_grown_and_capped_backoff(number, step):
    backoff = Backoff(duration=SECOND, factor=2, max_duration=60 * SECOND)
    longest = min(2.0 ** (number - 1), 60)
    wait = delay(backoff, "run", step, number)
    assert 0 <= wait.total_seconds() <= longest
    assert wait == delay(backoff, "run", step, number)


# Runs that wait.


def pending(name: str, **fields) -> Run:
    return Run(
        **{
            "id": name,
            "source": "s",
            "workflow": name,
            "trigger": Trigger.MANUAL,
            "identity": name,
            "created_at": NOON,
            **fields,
        }
    )


def choose(runs, running=(), most=10):
    return claimable(
        runs, running, max_runs=most, now=NOON, policy=lambda _: ConcurrencyPolicy.FORBID
    )


def test_priority_then_time_decides_who_starts():
    late = pending("late", created_at=NOON + SECOND)
    urgent = pending("urgent", created_at=NOON + SECOND, priority=5)
    early = pending("early")
    choice = choose([late, early, urgent], most=2)
    assert [run.id for run in choice.start] == ["urgent", "early"]
    assert "maxParallel.runs" in choice.waiting["late"]


def test_one_run_of_a_workflow_at_a_time():
    first, second = pending("a", workflow="w"), pending("b", workflow="w")
    assert [run.id for run in choose([first, second]).start] == ["a"]
    assert choose([second], running=[first]).start == ()


def test_a_run_waits_for_its_moment_and_says_when_to_look_again():
    choice = choose([pending("a", not_before=NOON + SECOND)])
    assert choice.start == ()
    assert choice.wake_at == NOON + SECOND


# Desired state.


def text(name: str, script: str = "true") -> bytes:
    return (
        "apiVersion: rondel/v1alpha1\nkind: Workflow\n"
        f"metadata: {{name: {name}}}\nspec: {{steps: [{{name: a, script: '{script}'}}]}}\n"
    ).encode()


def snapshot(*unreadable: str) -> Snapshot:
    return Snapshot(source="s", revision="r", entries={}, unreadable=unreadable)


def load(loaded: desired.Loaded, **files: bytes | None) -> desired.Loaded:
    parsed: dict[str, ParsedFile | None] = {
        f"{name}.yaml": None if data is None else parse_file(f"{name}.yaml", data, source="s")
        for name, data in files.items()
    }
    return desired.advance(loaded, snapshot(), parsed)


EMPTY = desired.Loaded.empty("s")


def test_a_file_loads_and_its_removal_removes():
    loaded = load(EMPTY, a=text("one"), b=text("two"))
    assert set(loaded.declarations) == {"one", "two"}
    assert loaded.changed == {"one", "two"}
    gone = load(loaded, a=None)
    assert set(gone.declarations) == {"two"}
    assert gone.changed == {"one"}


def test_a_broken_file_keeps_its_last_valid_spec():
    loaded = load(EMPTY, a=text("one"), b=text("two"))
    broken = load(loaded, a=b"kind: [unclosed")
    assert broken.declarations == loaded.declarations
    assert set(broken.invalid) == {"one"}
    mended = load(broken, a=text("one", "echo"))
    assert mended.invalid == {}
    assert mended.changed == {"one"}


def test_a_faulty_manifest_among_good_ones_hides_none_of_them():
    good = {f"g{i}": text(f"good{i}") for i in range(10)}
    loaded = load(EMPTY, bad=text("bad").replace(b"steps", b"stepz"), **good)
    assert len(loaded.declarations) == 10
    assert "bad.yaml:4" in str(loaded.invalid["bad"])


def test_two_files_with_one_name_load_neither_at_first_sight():
    loaded = load(EMPTY, a=text("one"), b=text("one"))
    assert loaded.declarations == {}
    assert "a.yaml and in b.yaml" in str(loaded.invalid["one"])


def test_the_owner_of_a_name_keeps_it():
    loaded = load(EMPTY, a=text("one"))
    both = load(loaded, b=text("one", "echo other"))
    assert both.declarations["one"].file == "a.yaml"
    assert "b.yaml" in both.invalid["one"].file
    moved = load(both, a=None)
    assert moved.declarations["one"].file == "b.yaml"
    assert moved.invalid == {}


def test_the_store_remembers_the_owner():
    first = desired.Loaded.empty("s", owners={"one": "b.yaml"})
    loaded = load(first, a=text("one"), b=text("one"))
    assert loaded.declarations["one"].file == "b.yaml"


def test_what_cannot_be_read_is_not_removed():
    loaded = load(EMPTY, a=text("one"))
    hidden = desired.advance(loaded, snapshot("a.yaml"), {"a.yaml": None})
    assert set(hidden.declarations) == {"one"}


def test_an_empty_source_never_prunes_everything():
    loaded = load(EMPTY, a=text("one"))
    emptied = load(loaded, a=None)
    assert set(emptied.declarations) == {"one"}
    assert "no workflow is left" in str(emptied.all_faults[0])
    allowed = desired.Loaded.empty("s", allow_empty=True)
    assert load(load(allowed, a=text("one")), a=None).declarations == {}


def test_without_prune_a_removed_manifest_stays():
    kept = desired.Loaded.empty("s", prune=False)
    loaded = load(load(kept, a=text("one"), b=text("two")), a=None)
    assert set(loaded.declarations) == {"one", "two"}


def test_faults_know_their_file():
    assert Fault(file="x.yaml", line=2, column=3, problem="p", remedy="r").file == "x.yaml"
    assert (
        str(Fault(file="x.yaml", line=2, column=3, problem="p", remedy="r")) == "x.yaml:2:3: p; r"
    )
