"""The run engine with real processes and the real store."""

import asyncio
import json
from pathlib import Path

import pytest

from controller import manifest
from controller.model.run import Phase


def step(name, script="true", **fields):
    return {"name": name, "script": script, **fields}


async def test_outputs_and_artifacts_pass_from_step_to_step(lab):
    story = await lab.run(
        {
            "steps": [
                step(
                    "make",
                    "echo 5 > n.txt; mkdir out; echo deep > out/f; chmod +x out/f",
                    outputs={"n": {"path": "n.txt", "type": "integer"}},
                    artifacts=[{"name": "tree", "path": "out"}, {"name": "one", "path": "n.txt"}],
                ),
                step(
                    "use",
                    'test "$N" = 6; test "$(cat in/f)" = deep; test -x in/f; cat one; echo x >> in/f',
                    env={"N": "${{ steps.make.outputs.n + 1 }}"},
                    mounts=[
                        {"artifact": "make.tree", "path": "in"},
                        {"artifact": "make.one", "path": "one"},
                    ],
                ),
                step(
                    "again",
                    'test "$(cat in/f)" = deep',
                    needs=["use"],
                    mounts=[{"artifact": "make.tree", "path": "in"}],
                ),
            ],
            "outputs": {"n": "${{ steps.make.outputs.n }}"},
        }
    )
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    assert story.run.outputs == {"n": 5}


async def test_a_step_sees_the_promised_environment_and_nothing_else(lab, monkeypatch):
    monkeypatch.setenv("LEAKED", "from the daemon")
    story = await lab.run({"steps": [step("env", "env", env={"MINE": 1, "GONE": None})]})
    log = [json.loads(line)["line"] for line in (await story.log("env")).splitlines()]
    names = {line.partition("=")[0] for line in log}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {
        *("PATH", "HOME", "TMPDIR", "LANG", "MINE", "RONDEL_NONCE"),
        *("RONDEL_RUN_ID", "RONDEL_WORKFLOW", "RONDEL_STEP", "RONDEL_ATTEMPT"),
        *("RONDEL_REVISION", "RONDEL_TRIGGER", "RONDEL_SCHEDULED_TIME"),
    }
    assert "LANG=C.UTF-8" in log


@pytest.mark.parametrize(
    ("steps", "phases", "phase"),
    [
        pytest.param(
            [step("a", "exit 3"), step("b", needs=["a"]), step("c", needs=["b"])],
            {"a": "Failed", "b": "Skipped", "c": "Skipped"},
            Phase.FAILED,
            id="a-failed-need-skips-and-passes-on",
        ),
        pytest.param(
            [step("a", "exit 3", continueOnError=True), step("b", needs=["a"])],
            {"a": "Failed", "b": "Succeeded"},
            Phase.SUCCEEDED,
            id="continue-on-error-counts-for-nothing",
        ),
        pytest.param(
            [step("a", "exit 3", continueOnError={"exitCodes": [4]})],
            {"a": "Failed"},
            Phase.FAILED,
            id="only-the-listed-codes-are-forgiven",
        ),
        pytest.param(
            [step("a", "exit 3", successExitCodes=[3])],
            {"a": "Succeeded"},
            Phase.SUCCEEDED,
            id="other-codes-may-be-success",
        ),
        pytest.param(
            [step("a", "exit 3"), step("b", when="${{ steps.a.phase == 'Failed' }}")],
            {"a": "Failed", "b": "Succeeded"},
            Phase.FAILED,
            id="a-when-that-uses-the-phase-decides-for-itself",
        ),
        pytest.param(
            [
                step("a", when="${{ 1 > 2 }}", outputs={"x": {"path": "x"}}),
                step("after", needs=["a"]),
                step("uses", env={"X": "${{ steps.a.outputs.x }}"}),
            ],
            {"a": "Skipped", "after": "Succeeded", "uses": "Skipped"},
            Phase.SUCCEEDED,
            id="a-false-when-skips-only-those-that-use-its-outputs",
        ),
        pytest.param(
            [step("a", outputs={"x": {"path": "nowhere"}})],
            {"a": "Failed"},
            Phase.FAILED,
            id="a-declared-output-must-be-written",
        ),
        pytest.param(
            [step("a", "echo no > n", outputs={"x": {"path": "n", "type": "integer"}})],
            {"a": "Failed"},
            Phase.FAILED,
            id="and-be-of-its-type",
        ),
        pytest.param(
            [step("a", outputs={"x": {"path": "n", "type": "integer", "default": 7}})],
            {"a": "Succeeded"},
            Phase.SUCCEEDED,
            id="unless-it-has-a-default",
        ),
        pytest.param(
            [step("a", "sleep 30", timeout="100ms")],
            {"a": "Failed"},
            Phase.FAILED,
            id="a-timeout-is-a-failure",
        ),
        pytest.param(
            [{"name": "a", "args": ["no-such-command"]}],
            {"a": "Failed"},
            Phase.FAILED,
            id="a-missing-command-is-the-steps-failure",
        ),
        pytest.param(
            [step("a", secrets=[{"name": "T", "secret": "hidden"}])],
            {"a": "Skipped"},
            Phase.ERROR,
            id="a-secret-of-the-operators-own-is-refused",
        ),
    ],
)
async def test_phases(lab, steps, phases, phase):
    story = await lab.run({"steps": steps})
    assert story.run.phase is phase, (story.run, story.steps)
    assert story.phases == phases


async def test_hooks_and_finally_follow_the_phase(lab):
    story = await lab.run(
        {
            "steps": [step("a", "exit 1")],
            "onSuccess": [step("good")],
            "onFailure": [step("bad", 'test "$P" = Failed', env={"P": "${{ run.phase }}"})],
            "onCancel": [step("stopped")],
            "finally": [step("end", 'test "$A" = Failed', env={"A": "${{ steps.a.phase }}"})],
        }
    )
    assert story.phases == {
        "a": "Failed",
        "good": "Skipped",
        "bad": "Succeeded",
        "stopped": "Skipped",
        "end": "Succeeded",
    }
    assert story.run.phase is Phase.FAILED


async def test_a_retry_goes_on_until_it_succeeds(lab):
    retry = {"limit": 3, "exitCodes": [75], "backoff": {"duration": "10ms"}}
    story = await lab.run(
        {"steps": [step("a", '[ "$RONDEL_ATTEMPT" -ge 3 ] || exit 75', retry=retry)]}
    )
    assert story.run.phase is Phase.SUCCEEDED
    assert [(one.number, str(one.phase)) for one in story.attempts] == [
        (1, "Failed"),
        (2, "Failed"),
        (3, "Succeeded"),
    ]


async def test_cancelling_runs_cancel_hooks_and_finally_and_skips_the_rest(lab):
    run = await lab.make(
        {
            "steps": [step("a", "echo up; sleep 60"), step("b", needs=["a"])],
            "onCancel": [step("stopped")],
            "finally": [step("end")],
        }
    )
    task = asyncio.create_task(lab.engine.execute(run, manifest.workflow(run.spec)))
    while ("a", "up") not in lab.lines:
        await asyncio.sleep(0.01)
    assert lab.engine.cancel(run.id)
    await task
    story = await lab.story(run.id)
    assert story.run.phase is Phase.CANCELLED
    assert story.phases == {
        "a": "Cancelled",
        "b": "Skipped",
        "stopped": "Succeeded",
        "end": "Succeeded",
    }
    assert story.steps["b"].reason == "RunEnded"


async def test_cancelling_now_leaves_hooks_and_finally_out(lab):
    run = await lab.make({"steps": [step("a", "echo up; sleep 60")], "finally": [step("end")]})
    task = asyncio.create_task(lab.engine.execute(run, manifest.workflow(run.spec)))
    while ("a", "up") not in lab.lines:
        await asyncio.sleep(0.01)
    lab.engine.cancel(run.id, now=True)
    await task
    assert (await lab.story(run.id)).phases == {"a": "Cancelled", "end": "Skipped"}


async def test_a_runs_timeout_fails_it_and_finally_still_runs(lab):
    story = await lab.run(
        {
            "timeout": "150ms",
            "steps": [step("a", "sleep 60"), step("b", needs=["a"])],
            "finally": [step("end")],
        }
    )
    assert (story.run.phase, story.run.reason) == (Phase.FAILED, "Timeout")
    assert story.phases == {"a": "Failed", "b": "Skipped", "end": "Succeeded"}
    assert story.steps["a"].reason == "Timeout"


async def test_secrets_reach_the_step_and_never_the_log(lab):
    uses = [{"name": "TOKEN", "secret": "token"}, {"file": "t.txt", "secret": "token"}]
    script = 'test "$(cat t.txt)" = "$TOKEN"; echo "it is $TOKEN"; printf "%s" "$TOKEN" | base64'
    story = await lab.run({"secrets": ["token"], "steps": [step("a", script, secrets=uses)]})
    assert story.run.phase is Phase.SUCCEEDED
    log = await story.log("a")
    assert "it is ***" in log
    assert "s3cr3t" not in log
    assert "czNjcjN0" not in log


async def test_an_input_is_read_from_its_source(lab, tmp_path):
    folder = tmp_path / "root" / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("hello")
    (folder / "skip.md").write_text("no")
    (folder / "escape").symlink_to("/etc/passwd")
    spec = {
        "inputs": [{"name": "src", "path": "data", "ignore": ["*.md", "escape"]}],
        "steps": [
            step(
                "a",
                'test "$(cat in/a.txt)" = hello; test "$(ls in)" = a.txt; echo "$D"',
                mounts=[{"input": "src", "path": "in"}],
                env={"D": "${{ inputs.src.digest }}"},
            )
        ],
    }
    story = await lab.run(spec)
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    assert story.run.inputs["src"] in await story.log("a")


async def test_a_link_out_of_the_workspace_is_never_collected(lab):
    story = await lab.run(
        {"steps": [step("a", "ln -s /etc/passwd p", outputs={"x": {"path": "p"}})]}
    )
    assert (story.steps["a"].reason, story.steps["a"].outputs) == ("OutputMissing", {})


async def test_never_more_steps_at_once_than_allowed(lab, tmp_path):
    busy = tmp_path / "busy"
    busy.mkdir()
    script = f"mkdir {busy}/$RONDEL_STEP; ls {busy} | wc -l; sleep 0.05; rmdir {busy}/$RONDEL_STEP"
    steps = [step(f"s{i}", script) for i in range(9)]
    await lab.run({"maxParallel": 3, "steps": steps})
    counts = [int(text) for _, text in lab.lines]
    assert len(counts) == 9
    assert max(counts) <= 3


async def test_what_local_cannot_do_ends_the_run_before_any_step(lab):
    story = await lab.run({"steps": [step("a"), step("b", workdir="/abs")]})
    assert (story.run.phase, story.run.reason) == (Phase.ERROR, "NeedsDagger")
    assert story.phases == {"a": "Skipped", "b": "Skipped"}


async def test_a_false_when_skips_the_run(lab):
    story = await lab.run({"when": "${{ run.trigger == 'Schedule' }}", "steps": [step("a")]})
    assert (story.run.phase, story.run.reason) == (Phase.SKIPPED, "ConditionFalse")


async def test_a_flood_of_output_is_bounded_and_keeps_both_ends(lab):
    lab.engine._house = type(lab.engine._house)(
        **{name: getattr(lab.engine._house, name) for name in lab.engine._house.__slots__}
        | {"log_max_size": 1 << 20}
    )
    story = await lab.run({"steps": [step("a", "echo first; seq 1 200000; echo last")]})
    assert story.run.phase is Phase.SUCCEEDED
    log = await story.log("a")
    assert len(log) < (1 << 20) + 1024  # and the line that says so
    lines = [json.loads(line)["line"] for line in log.splitlines()]
    assert (lines[0], lines[-1]) == ("first", "last")
    assert "... lines left out: over logs.maxSize ..." in lines


async def test_workspaces_are_gone_when_the_run_is(lab, tmp_path):
    await lab.run({"steps": [step("a", "mkdir -p d; touch d/f; chmod 500 d")]})
    assert list(Path(tmp_path / "state" / "work").iterdir()) == []
