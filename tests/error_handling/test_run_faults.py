"""A run among faults: retries, errors of the house, defects, a controller that is killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.errors import TransientError
from controller.execute.ports import Outcome, Verdict
from controller.model.changes import FinishAttempt, FinishRun, PutStep, StartAttempt, StartRun
from controller.model.run import Phase, Section, StepRun
from controller.model.workflow import Input, Mount, Output, RetryPolicy, SecretUse
from controller.store import Store
from tests.engine_lab import Lab, lab, retry, step, workflow

ROOT = Path(__file__).parents[2]


class Scripted:
    """An executor in memory: each attempt takes the next of its outcomes."""

    name = "local"
    versions: Mapping[str, str] = {}

    def __init__(self, *outcomes, opening=()):
        self.outcomes, self.opening, self.opened, self.closed = list(outcomes), list(opening), 0, 0
        self.outage = 0  # how often a second session can't be opened

    def refusal(self, _workflow):
        return None

    async def start(self): ...

    async def stop(self): ...

    async def close(self):
        self.closed += 1

    async def open(self, _run, _workflow):
        self.opened += 1
        if self.opened > 1 and self.outage:
            self.outage -= 1
            raise DOWN
        if self.opening:
            raise self.opening.pop(0)
        return self

    async def attempt(self, _request, output):
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        output.write("stdout", b"said\n")
        return outcome


OK = Outcome(exit_code=0)
BAD = Outcome(exit_code=1)
LOST = Outcome(verdict=Verdict.TRANSIENT, reason="SessionLost", error="gone")
STALLED = Outcome(verdict=Verdict.STALLED, reason="ImageNotFound", error="no image")
DOWN = TransientError("no engine", reason="EngineUnavailable")


@pytest.mark.parametrize(
    ("outcomes", "words", "told", "attempts"),
    [
        pytest.param([BAD, OK], retry(2), "Succeeded", 2, id="a-failure-is-tried-again"),
        pytest.param([BAD, BAD, BAD], retry(2), "Failed/ExitCode", 3, id="to-the-limit"),
        pytest.param(
            [BAD], retry(2, exit_codes=(75,)), "Failed/ExitCode", 1, id="other-exit-codes-are-not"
        ),
        pytest.param(
            [BAD],
            retry(2, policy=RetryPolicy.ON_ERROR),
            "Failed/ExitCode",
            1,
            id="on-error-takes-no-failure",
        ),
        pytest.param(
            [LOST, LOST, OK], retry(0), "Succeeded", 3, id="infrastructure-has-its-own-budget"
        ),
        pytest.param([LOST, LOST, LOST], retry(5), "Error/SessionLost", 3, id="and-ends-as-error"),
        pytest.param(
            [LOST, LOST, LOST, OK],
            retry(1, policy=RetryPolicy.ALWAYS),
            "Succeeded",
            4,
            id="the-steps-own-retry-comes-after",
        ),
        pytest.param(
            [STALLED], retry(5), "Error/ImageNotFound", 1, id="stalled-is-never-tried-again"
        ),
        pytest.param(
            [BAD], retry(5, max_elapsed=timedelta(0)), "Failed/ExitCode", 1, id="max-elapsed"
        ),
        pytest.param(
            [ZeroDivisionError("boom")],
            retry(3),
            "Error/InternalError",
            1,
            id="a-defect-is-an-error",
        ),
    ],
)
async def test_retries_follow_the_rules(tmp_path, outcomes, words, told, attempts):
    executor = Scripted(*outcomes)
    async with lab(tmp_path, executor=executor) as rig:
        story = await rig.execute(workflow(step("a", retry=words)))
    assert (story.told()["a"], story.steps["a"].attempts) == (told, attempts)
    assert [one.number for one in story.attempts] == list(range(1, attempts + 1))
    assert executor.outcomes == []
    assert executor.opened == executor.closed


async def test_a_defect_leaves_its_traceback_in_the_log(tmp_path):
    async with lab(tmp_path, executor=Scripted(ZeroDivisionError("boom"))) as rig:
        story = await rig.execute(workflow(step("a")))
        assert "Traceback" in await story.text("a")


async def test_an_engine_that_comes_back_is_waited_for(tmp_path):
    async with lab(tmp_path, executor=Scripted(OK, opening=[DOWN, DOWN])) as rig:
        assert (await rig.execute(workflow(step("a")))).phase is Phase.SUCCEEDED


async def test_an_engine_that_stays_away_is_an_error(tmp_path):
    async with lab(tmp_path, executor=Scripted(opening=[DOWN] * 3)) as rig:
        story = await rig.execute(workflow(step("a"), finally_=(step("z"),)))
    assert (story.run.phase, story.run.reason) == (Phase.ERROR, "EngineUnavailable")
    assert story.told() == {"a": "Skipped/RunEnded", "z": "Skipped/RunEnded"}


async def test_a_lost_session_is_opened_again_even_if_that_fails_at_first(tmp_path):
    executor = Scripted(LOST, OK)
    async with lab(tmp_path, executor=executor) as rig:
        run = await rig.claimed()
        executor.outage = 1
        assert await rig.engine.execute(run, workflow(step("a"))) is Phase.SUCCEEDED
    assert executor.opened == 3
    assert executor.closed == 2


async def test_an_unknown_secret_is_an_error_before_any_step(tmp_path):
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(step("a", secrets=(SecretUse(secret="no", name="X"),))))
    assert (story.run.phase, story.run.reason, story.steps["a"].attempts) == (
        Phase.ERROR,
        "SecretUnknown",
        0,
    )


async def test_inputs_that_moved_on_put_the_run_back(tmp_path):
    (tmp_path / "d").write_text("x")
    async with lab(tmp_path) as rig:
        wanted = workflow(
            step("a", mounts=(Mount(path="d", input="d"),)), inputs=(Input(name="d", path="d"),)
        )
        run = await rig.claimed(inputs={"d": "sha256:planned"})
        assert await rig.engine.execute(run, wanted) is Phase.PENDING
        story = await rig.story(run.id)
        assert (story.phase, story.run.reason, story.attempts) == (
            Phase.PENDING,
            "SourceChanged",
            [],
        )


async def test_a_false_when_skips_the_run(tmp_path):
    async with lab(tmp_path) as rig:
        story = await rig.execute(
            workflow(step("a"), when="${{ params.go }}"), params={"go": False}
        )
    assert (story.phase, story.run.reason) == (Phase.SKIPPED, "ConditionFalse")
    assert story.told() == {"a": "Skipped/RunEnded"}


async def test_expressions_see_what_came_before(tmp_path):
    async with lab(tmp_path) as rig:
        story = await rig.execute(
            workflow(
                step("one-two", "echo 5 > n", outputs=(Output(name="n", path="n"),)),
                step(
                    "b",
                    'echo "$N $R"',
                    env={"N": "${{ steps.one_two.outputs.n }}", "R": "${{ params.region }}"},
                    needs=("one-two",),
                ),
                step("c", when="${{ steps.b.exitCode == 1 }}", needs=("b",)),
                step("d", when="${{ nonsense( }}"),
                outputs={"n": "${{ steps.one_two.outputs.n }}"},
                finally_=(step("z", 'echo "$P"', env={"P": "${{ run.phase }}"}),),
            ),
            params={"region": "eu"},
        )
        assert await story.text("b") == "5 eu"
        assert story.told()["c"] == "Skipped/ConditionFalse"
        assert story.told()["d"] == "Error/ExpressionFailed"
        assert await story.text("z") == "Error"


async def test_hooks_follow_the_phase(tmp_path):
    hooks = {
        "on_success": (step("s"),),
        "on_failure": (step("f"),),
        "on_cancel": (step("c"),),
        "finally_": (step("z"),),
    }
    async with lab(tmp_path) as rig:
        good = await rig.execute(workflow(step("a"), **hooks))
        bad = await rig.execute(workflow(step("a", "exit 2"), **hooks))
    assert [name for name, row in good.steps.items() if row.attempts] == ["a", "s", "z"]
    assert [name for name, row in bad.steps.items() if row.attempts] == ["a", "f", "z"]


async def test_a_failing_hook_or_finally_counts(tmp_path):
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(step("a"), finally_=(step("z", "exit 1"),)))
    assert story.phase is Phase.FAILED


async def test_a_step_and_its_successor_share_one_record(tmp_path):
    async with lab(tmp_path) as rig:
        await rig.execute(workflow(step("a"), step("b", needs=("a",))))
        kinds = [[type(change) for change in call] for call in rig.ledger.calls]
    assert [FinishAttempt, PutStep, StartAttempt] in kinds
    assert kinds == [
        [StartRun, StartAttempt],
        [FinishAttempt, PutStep, StartAttempt],
        [FinishAttempt, PutStep, FinishRun],
    ]


async def test_cancel_in_backoff_ends_at_once(tmp_path):
    slow = retry(3)
    slow = type(slow)(limit=3)  # the default backoff: ten seconds
    async with lab(tmp_path) as rig:
        run = await rig.claimed()
        task = asyncio.create_task(
            rig.engine.execute(run, workflow(step("a", "exit 1", retry=slow)))
        )
        async with asyncio.timeout(10):
            while not any(isinstance(c, FinishAttempt) for call in rig.ledger.calls for c in call):
                await asyncio.sleep(0.01)
        rig.engine.cancel(run.id)
        async with asyncio.timeout(2):
            assert await task is Phase.CANCELLED
        assert (await rig.story(run.id)).told() == {"a": "Cancelled/Cancelled"}


DAEMON = """
import asyncio, sys
from pathlib import Path
from tests.engine_lab import lab, step, workflow

async def main():
    async with lab(Path(sys.argv[1])) as rig:
        run = await rig.claimed()
        escape = "env -i setsid sh -c 'setsid sleep 98771 & exit'; setsid sleep 98771 & "
        steps = [step(f"s{n}", f"echo up; {escape} sleep 98771") for n in range(3)]
        hooks = {"on_failure": (step("f", "echo hook"),), "finally_": (step("z", "echo end"),)}
        await rig.engine.execute(run, workflow(*steps, step("later", needs=("s0",)), **hooks))

asyncio.run(main())
"""


def sleepers() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", b"98771"]:
                found.append(entry.name)
    return found


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


async def test_a_killed_controller_leaves_no_process_and_its_run_is_settled_once(tmp_path):
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(tmp_path)], cwd=ROOT, env=dict(os.environ)
    )
    try:
        assert wait_for(lambda: len(sleepers()) >= 9)
    finally:
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
    assert wait_for(lambda: not sleepers())

    store = await Store.open(tmp_path / "state", clock=SystemClock())
    rig = Lab(store, tmp_path)
    await rig.engine.start()
    try:
        [(run, steps, attempts)] = await store.recover_candidates()
        hooks = {"on_failure": (step("f", "echo hook"),), "finally_": (step("z", "echo end"),)}
        wanted = workflow(*(step(f"s{n}") for n in range(3)), step("later", needs=("s0",)), **hooks)
        assert await rig.engine.recover(run, wanted, steps, attempts) is Phase.INTERRUPTED
        story = await rig.story(run.id)
        assert (story.run.phase, story.run.reason) == (Phase.INTERRUPTED, "ControllerLost")
        assert story.told() == {
            **{f"s{n}": "Interrupted/ControllerLost" for n in range(3)},
            "later": "Skipped/RunEnded",
            "f": "Succeeded",
            "z": "Succeeded",
        }
        assert await story.text("s1") == "up"
        assert story.attempt("s1").log_truncated
        assert await store.recover_candidates() == []
        assert not list((tmp_path / "state" / "work").iterdir())
    finally:
        await rig.engine.stop()
        await store.close()


async def test_hooks_that_had_started_do_not_run_again_at_recovery(tmp_path):
    async with lab(tmp_path) as rig:
        run = await rig.claimed()
        rows = [
            StepRun(run=run.id, name="a", phase=Phase.FAILED, attempts=1),
            StepRun(
                run=run.id,
                name="f",
                section=Section.ON_FAILURE,
                position=1,
                phase=Phase.RUNNING,
                attempts=1,
            ),
            StepRun(run=run.id, name="z", section=Section.FINALLY, position=2),
        ]
        await rig.store.record(*(PutStep(step=row, at=run.created_at) for row in rows))
        wanted = workflow(step("a"), on_failure=(step("f"),), finally_=(step("z"),))
        await rig.engine.recover(run, wanted, rows, [])
        story = await rig.story(run.id)
    assert {name: row.attempts for name, row in story.steps.items()} == {"a": 1, "f": 1, "z": 1}
    assert story.told()["f"] == "Interrupted/ControllerLost"


async def test_hooks_that_could_not_run_at_recovery_are_not_left_open(tmp_path):
    async with lab(tmp_path) as rig:
        run = await rig.claimed()
        rows = [
            StepRun(run=run.id, name="a", phase=Phase.RUNNING, attempts=1),
            StepRun(run=run.id, name="z", section=Section.FINALLY, position=1),
        ]
        await rig.store.record(*(PutStep(step=row, at=run.created_at) for row in rows))
        last = step("z", secrets=(SecretUse(secret="no", name="X"),))
        await rig.engine.recover(run, workflow(step("a"), finally_=(last,)), rows, [])
        story = await rig.story(run.id)
    assert "its hooks did not run" in story.run.message
    assert story.told() == {"a": "Interrupted/ControllerLost", "z": "Skipped/RunEnded"}


async def test_no_secret_stands_in_a_message(tmp_path):
    async with lab(tmp_path, secrets={"key": "s3cr3t-value"}) as rig:
        made = step(
            "a",
            'echo "$KEY" > n; echo "$KEY" >&2',
            secrets=(SecretUse(secret="key", name="KEY"),),
            outputs=(Output(name="n", path="n", type="integer"),),  # type: ignore[arg-type]
        )
        story = await rig.execute(workflow(made))
        told = json.dumps([story.run.message, story.steps["a"].error, story.attempt("a").error])
        assert story.told() == {"a": "Failed/OutputInvalid"}
        assert "s3cr3t" not in told + await story.text("a")
