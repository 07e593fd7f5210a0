"""Steps as real processes: what they see, what they leave, what ends them."""

import asyncio
import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from controller.execute.local import LocalExecutor
from controller.model.run import Phase
from controller.model.workflow import Artifact, Input, Mount, Output, OutputType, SecretUse
from tests.engine_lab import lab, step, workflow


@pytest.fixture
async def rig(tmp_path):
    async with lab(tmp_path) as found:
        yield found


def alive(mark: str) -> list[int]:
    """Return the processes whose command line holds `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_bytes().rpartition(b") ")[2][:1]
        except OSError:
            continue
        if mark.encode() in words and state != b"Z":
            found.append(int(entry.name))
    return found


async def gone(mark: str) -> bool:
    for _ in range(100):
        if not alive(mark):
            return True
        await asyncio.sleep(0.02)
    return False


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_step_runs_and_its_output_is_kept(rig):
    story = await rig.execute(workflow(step("a", "echo hello; echo bad >&2")))
    assert story.told() == {"a": "Succeeded"}
    assert story.phase is Phase.SUCCEEDED
    assert {(line["stream"], line["line"]) for line in await story.log("a")} == {
        ("stdout", "hello"),
        ("stderr", "bad"),
    }
    assert not list((rig.state_dir / "work").iterdir())
    assert not list((rig.state_dir / "logs").glob("*/*"))


async def test_the_environment_is_exactly_the_promised_one(rig, monkeypatch):
    monkeypatch.setenv("DAEMON_ONLY", "x")
    story = await rig.execute(
        workflow(step("a", args=("env", "-0"), env={"MINE": "1", "COUNT": 3, "NONE": None})),
    )
    found = dict(pair.split("=", 1) for pair in (await story.text("a")).split("\0") if pair)
    assert found.pop("PATH") == os.environ["PATH"]
    assert Path(found.pop("HOME")).name == "home"
    assert Path(found.pop("TMPDIR")).name == "tmp"
    assert len(found.pop("RONDEL_NONCE")) == 32
    assert found.pop("RONDEL_SCHEDULED_TIME").endswith("Z")
    assert found == {
        "LANG": "C.UTF-8",
        "MINE": "1",
        "COUNT": "3",
        "RONDEL_RUN_ID": story.run.id,
        "RONDEL_WORKFLOW": "w",
        "RONDEL_STEP": "a",
        "RONDEL_ATTEMPT": "1",
        "RONDEL_REVISION": "r1",
        "RONDEL_TRIGGER": "Manual",
    }


async def test_a_step_holds_no_descriptor_but_the_standard_three(rig):
    story = await rig.execute(workflow(step("a", args=("ls", "/proc/self/fd"))))
    assert (await story.text("a")).split() == ["0", "1", "2", "3"]  # 3 is ls reading the folder


async def test_signals_are_not_ignored_in_steps(rig):
    story = await rig.execute(workflow(step("a", args=("grep", "SigIgn", "/proc/self/status"))))
    assert int((await story.text("a")).split()[1], 16) & 0x7FFFFFFF == 0


async def test_a_background_process_ends_with_its_step_and_does_not_hold_it(rig):
    began = time.monotonic()
    story = await rig.execute(workflow(step("a", "sleep 98761 & echo done")))
    assert story.phase is Phase.SUCCEEDED
    assert await gone("98761")
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    "escape",
    [
        pytest.param("setsid sleep 98762 >/dev/null 2>&1 &", id="setsid"),
        pytest.param("setsid sh -c 'sleep 98762 & exit' &", id="double-fork"),
        pytest.param("env -i setsid sh -c 'setsid sleep 98762 & exit' & sleep 0.1", id="no-marks"),
    ],
)
async def test_what_tries_to_escape_ends_with_its_step(rig, escape):
    story = await rig.execute(workflow(step("a", escape)))
    assert story.phase is Phase.SUCCEEDED
    assert await gone("98762")


async def test_a_stray_of_a_running_step_is_left_alone_until_that_step_ends(rig):
    escape = "env -i setsid sh -c 'setsid sleep 98763 & exit'; "
    story = await rig.execute(
        workflow(
            step("long", escape + "sleep 0.8; pgrep -f 'sleep [9]8763' >/dev/null && echo lives"),
            step("short", "sleep 0.2"),
        )
    )
    assert await story.text("long") == "lives"
    assert await gone("98763")


async def test_a_step_that_ignores_sigterm_is_killed_when_it_times_out(rig, monkeypatch):
    monkeypatch.setattr("controller.execute.local.process.TERM_GRACE_SECONDS", 0.2)
    story = await rig.execute(
        workflow(
            step("a", "trap '' TERM; sleep 98764 & wait; wait", timeout=timedelta(seconds=0.3))
        )
    )
    assert story.told() == {"a": "Failed/Timeout"}
    assert (story.run.phase, story.run.message.count("timed out")) == (Phase.FAILED, 1)
    assert await gone("98764")


async def test_a_missing_command_is_127_with_a_clear_line(rig):
    story = await rig.execute(workflow(step("a", args=("no-such-command",))))
    assert story.steps["a"].exit_code == 127
    assert "no-such-command" in await story.text("a")


async def test_a_file_that_may_not_run_is_126(rig):
    story = await rig.execute(workflow(step("a", args=("/etc/hostname",))))
    assert story.steps["a"].exit_code == 126


async def test_a_zero_byte_in_an_argument_fails_that_step_only(rig):
    story = await rig.execute(
        workflow(step("bad", args=("echo", "a\0b")), step("good", "sleep 0.2; echo fine"))
    )
    assert story.told() == {"bad": "Failed/ExitCode", "good": "Succeeded"}


async def test_a_killed_step_has_128_plus_the_signal(rig):
    story = await rig.execute(workflow(step("a", "kill -9 $$")))
    assert story.steps["a"].exit_code == 137


async def test_a_large_environment_reaches_the_step(rig):
    env = {f"V{number}": "x" * 50_000 for number in range(8)}
    story = await rig.execute(workflow(step("a", 'printf %s "$V7" | wc -c', env=env)))
    assert (await story.text("a")).strip() == "50000"


async def test_mounts_are_writable_copies(rig, tmp_path):
    (tmp_path / "data.txt").write_text("original\n")
    both = workflow(
        step("a", "cat in.txt; echo changed > in.txt", mounts=(Mount(path="in.txt", input="d"),)),
        step("b", "cat in.txt", mounts=(Mount(path="in.txt", input="d"),), needs=("a",)),
        inputs=(Input(name="d", path="data.txt"),),
    )
    story = await rig.execute(both)
    assert (await story.text("a"), await story.text("b")) == ("original", "original")
    assert (tmp_path / "data.txt").read_text() == "original\n"


async def test_artifacts_pass_files_and_folders_on(rig):
    story = await rig.execute(
        workflow(
            step(
                "make",
                "mkdir -p d/e; echo deep > d/e/f; echo flat > one",
                artifacts=(
                    Artifact(name="tree", path="d"),
                    Artifact(name="file", path="one"),
                    Artifact(name="inner", path="d/e/f"),
                ),
                outputs=(Output(name="deep", path="d/e/f"),),
            ),
            step(
                "use",
                "cat t/e/f x; echo y >> x",
                needs=("make",),
                mounts=(
                    Mount(path="t", artifact="make.tree"),
                    Mount(path="x", artifact="make.file"),
                ),
            ),
        )
    )
    assert story.phase is Phase.SUCCEEDED, story.run.message
    assert await story.text("use") == "deep\nflat"
    assert story.steps["make"].outputs == {"deep": "deep"}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (OutputType.STRING, "a b\n\n", "a b"),
        (OutputType.INTEGER, "-7\n", -7),
        (OutputType.NUMBER, "1.5\n", 1.5),
        (OutputType.BOOLEAN, "true\n", True),
        (OutputType.JSON, '{"a": [1, null]}', {"a": [1, None]}),
    ],
)
async def test_outputs_have_their_type(rig, kind, text, value):
    made = step(
        "a", 'printf %s "$T" > o', env={"T": text}, outputs=(Output(name="o", path="o", type=kind),)
    )
    story = await rig.execute(workflow(made))
    assert story.steps["a"].outputs == {"o": value}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (OutputType.INTEGER, "1_000"),
        (OutputType.INTEGER, "99999999999999999999"),
        (OutputType.NUMBER, "NaN"),
        (OutputType.JSON, "{"),
        (OutputType.JSON, "NaN"),
        (OutputType.JSON, '"\\ud800"'),
        (OutputType.JSON, "[" * 100_000),
        (OutputType.BOOLEAN, "yes"),
    ],
)
async def test_an_output_of_another_type_is_invalid(rig, kind, text):
    made = step(
        "a", 'printf %s "$T" > o', env={"T": text}, outputs=(Output(name="o", path="o", type=kind),)
    )
    story = await rig.execute(workflow(made))
    assert story.told() == {"a": "Failed/OutputInvalid"}


async def test_a_missing_output_fails_and_a_default_fills_in(rig):
    outputs = (Output(name="o", path="o", default=4), Output(name="p", path="p"))
    story = await rig.execute(workflow(step("a", "true", outputs=outputs)))
    assert story.told() == {"a": "Failed/OutputMissing"}
    story = await rig.execute(workflow(step("a", "true", outputs=outputs[:1])))
    assert story.steps["a"].outputs == {"o": 4}


async def test_what_a_failed_step_wrote_is_kept(rig):
    made = step(
        "a",
        "echo v > o; echo w > art; exit 3",
        outputs=(Output(name="o", path="o"),),
        artifacts=(Artifact(name="art", path="art"), Artifact(name="not", path="not")),
    )
    story = await rig.execute(workflow(made))
    row = story.steps["a"]
    assert (row.exit_code, row.outputs, set(row.artifacts)) == (3, {"o": "v"}, {"art"})


async def test_a_link_out_of_the_workspace_is_not_followed(rig):
    made = step(
        "a",
        "ln -s /etc/hostname o; ln -s /etc d",
        outputs=(
            Output(name="o", path="o", default="none"),
            Output(name="p", path="d/hostname", default="none"),
        ),
    )
    story = await rig.execute(workflow(made))
    assert story.steps["a"].outputs == {"o": "none", "p": "none"}


async def test_secrets_reach_the_step_and_never_the_log(tmp_path):
    async with lab(tmp_path, secrets={"key": "hunter2-hunter2"}) as rig:
        made = step(
            "a",
            'echo "$KEY"; cat k; printf %s "$KEY" | base64; printf "x%s" "$KEY" | base64',
            secrets=(SecretUse(secret="key", name="KEY"), SecretUse(secret="key", file="k")),
        )
        story = await rig.execute(workflow(made))
        assert story.phase is Phase.SUCCEEDED
        assert "hunter2" not in json.dumps(await story.log("a"))
        assert (await story.text("a")).count("***") == 4


async def test_an_agents_inputs_are_a_file(rig):
    made = step("a", 'cat "$RONDEL_INPUTS"', inputs={"operation": "t", "list": [1]})
    story = await rig.execute(workflow(made))
    assert json.loads(await story.text("a")) == {"operation": "t", "list": [1]}


async def test_an_absolute_mount_needs_dagger(rig):
    made = step("a", mounts=(Mount(path="/x", input="d"),))
    story = await rig.execute(workflow(made, inputs=(Input(name="d", path="d"),)))
    assert (story.run.phase, story.run.reason) == (Phase.ERROR, "NeedsDagger")
    assert story.told() == {"a": "Skipped/RunEnded"}


async def test_cancel_runs_on_cancel_and_finally(rig):
    run = await rig.claimed()
    wanted = workflow(
        step("a", "echo up; sleep 98765"),
        step("b", needs=("a",)),
        on_cancel=(step("c"),),
        on_failure=(step("f"),),
        finally_=(step("z"),),
    )
    task = asyncio.create_task(rig.engine.execute(run, wanted))
    await until(lambda: alive("98765"))
    assert rig.engine.cancel(run.id, reason="Cancelled")
    assert await task is Phase.CANCELLED
    story = await rig.story(run.id)
    assert story.told() == {
        "a": "Cancelled/Cancelled",
        "b": "Skipped/RunEnded",
        "c": "Succeeded",
        "f": "Skipped/RunEnded",
        "z": "Succeeded",
    }
    assert story.attempt("a").phase is Phase.CANCELLED
    assert await gone("98765")


async def test_cancel_now_kills_at_once_and_runs_no_hooks(rig):
    run = await rig.claimed()
    wanted = workflow(step("a", "trap '' TERM; sleep 98766 & wait; wait"), finally_=(step("z"),))
    task = asyncio.create_task(rig.engine.execute(run, wanted))
    await until(lambda: alive("98766"))
    began = time.monotonic()
    rig.engine.cancel(run.id, now=True)
    assert await task is Phase.CANCELLED
    assert time.monotonic() - began < 4  # the grace of five seconds is not waited for
    assert (await rig.story(run.id)).told()["z"] == "Skipped/RunEnded"
    assert await gone("98766")


async def test_a_run_over_its_timeout_is_failed_and_finally_runs(rig):
    story = await rig.execute(
        workflow(
            step("a", "sleep 98767"),
            step("b", needs=("a",)),
            timeout=timedelta(seconds=0.4),
            finally_=(step("z"),),
        )
    )
    assert (story.run.phase, story.run.reason) == (Phase.FAILED, "Timeout")
    assert story.told() == {"a": "Failed/Timeout", "b": "Skipped/RunEnded", "z": "Succeeded"}
    assert await gone("98767")


async def test_a_lost_keeper_is_an_infrastructure_error_and_leaves_nothing(rig):
    run = await rig.claimed()
    task = asyncio.create_task(rig.engine.execute(run, workflow(step("a", "sleep 98768"))))
    for _ in range(3):  # the first attempt and the two retries of the lab's budget
        await until(lambda: alive("98768"))
        os.kill(rig.executor.keeper.pid, signal.SIGKILL)
        assert await gone("98768") or alive("98768")
        await asyncio.sleep(0.3)
    assert await task is Phase.ERROR
    story = await rig.story(run.id)
    assert story.told() == {"a": "Error/KeeperLost"}
    assert story.steps["a"].attempts == 3
    assert await gone("98768")
    assert (await rig.execute(workflow(step("b")))).phase is Phase.SUCCEEDED


async def test_a_flood_of_output_is_bounded(tmp_path):
    async with lab(tmp_path, log_max_size=1 << 20) as rig:
        story = await rig.execute(workflow(step("a", "seq 1 2000000")))
        assert story.phase is Phase.SUCCEEDED
        assert story.attempt("a").log_truncated
        lines = [line["line"] for line in await story.log("a")]
        assert (lines[0], lines[-1]) == ("1", "2000000")
        assert len(await rig.store.blobs.get(story.attempt("a").log)) < 1 << 21


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_steps_run_as_another_user_with_a_home_of_their_own(tmp_path):
    (tmp_path / "d").write_text("mounted\n")
    executor = LocalExecutor(state_dir=tmp_path / "state", user="nobody")
    async with lab(tmp_path, executor=executor) as rig:
        made = step(
            "a",
            "id -un; id -G; touch w $HOME/h $TMPDIR/t; cat o; echo v > o",
            outputs=(Output(name="o", path="o"),),
            mounts=(Mount(path="o", input="d"),),
        )
        story = await rig.execute(workflow(made, inputs=(Input(name="d", path="d"),)))
        said = (await story.text("a")).split()
        assert story.phase is Phase.SUCCEEDED, said
        assert said[0] == "nobody"
        assert "0" not in said
        assert said[-1] == "mounted"
        assert story.steps["a"].outputs == {"o": "v"}
