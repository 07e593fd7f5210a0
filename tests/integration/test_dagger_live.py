"""The dagger executor on a live engine: skipped, with the reason, where there is none."""

import asyncio
import json
import shutil
import signal
import time
from pathlib import Path

import pytest

from controller import environment, manifest
from controller.clock import SystemClock
from controller.execute.dagger import DaggerExecutor, check
from controller.execute.engine import RunEngine
from controller.model.run import Phase
from controller.model.settings import DaggerSettings, Registry, SecretRef
from controller.secrets import ConfiguredSecrets
from controller.store import Store
from tests.conftest import QUICK, Inputs, Lab

IMAGE = environment.get("RONDEL_TEST_IMAGE")
PRIVATE = environment.get("RONDEL_TEST_PRIVATE_IMAGE")
NOT_ROOT = environment.get("RONDEL_TEST_USER_IMAGE")  # its commands run as another user
HERE = (
    environment.get("_EXPERIMENTAL_DAGGER_RUNNER_HOST")
    and (environment.get("_EXPERIMENTAL_DAGGER_CLI_BIN") or shutil.which("dagger"))
    and IMAGE
)
pytestmark = [
    pytest.mark.dagger,
    pytest.mark.skipif(
        not HERE,
        reason="needs an engine: _EXPERIMENTAL_DAGGER_RUNNER_HOST, a dagger command and"
        " RONDEL_TEST_IMAGE",
    ),
    pytest.mark.timeout(180),
]


@pytest.fixture
async def dagger_lab(tmp_path):
    clock = SystemClock()
    state = tmp_path / "state"
    (tmp_path / "root").mkdir()
    store = await Store.open(state, clock=clock, kind="exec")
    (tmp_path / "token").write_text("s3cr3t-value")
    (tmp_path / "password").write_text(environment.get("RONDEL_TEST_REGISTRY_PASSWORD") or "none")
    secrets = ConfiguredSecrets(
        {
            "token": SecretRef(
                name="token", file=str(tmp_path / "token"), version="1", sources=("test",)
            ),
            "password": SecretRef(name="password", file=str(tmp_path / "password")),
        }
    )
    host = (PRIVATE or "none").partition("/")[0]
    user = environment.get("RONDEL_TEST_REGISTRY_USER") or "none"
    settings = DaggerSettings(
        registries=(Registry(host=host, username=user, secret="password", sources=("test",)),)
    )
    executor = DaggerExecutor(settings, secrets=secrets, state_dir=state, clock=clock)
    made: list[Lab] = []
    engine = RunEngine(
        ledger=store,
        blobs=store.blobs,
        inputs=Inputs(tmp_path / "root"),
        secrets=secrets,
        executors={"dagger": executor},
        clock=clock,
        state_dir=state,
        max_steps=20,
        log_max_size=64 << 20,
        infrastructure_retry=QUICK,
        on_line=lambda _, step, __, ___, text: made[0].lines.append((step, text)),
    )
    made.append(Lab(store, engine, clock))
    await engine.start()
    yield made[0]
    await engine.stop()
    await store.close()


def step(name, script="true", **fields):
    return {"name": name, "script": script, "image": IMAGE, **fields}


async def test_an_engine_answers_with_its_versions():
    found = await check(DaggerSettings())
    assert found["dagger-engine"].startswith("v0.")


async def test_outputs_artifacts_and_inputs_pass_through_containers(dagger_lab, tmp_path):
    (tmp_path / "root" / "data").mkdir()
    (tmp_path / "root" / "data" / "a.txt").write_text("hello")
    story = await dagger_lab.run(
        {
            "inputs": [{"name": "src", "path": "data"}],
            "steps": [
                step(
                    "make",
                    "cat in/a.txt; echo 5 > n; mkdir -p out/deep; echo x > out/deep/f; echo y >> in/a.txt",
                    mounts=[{"input": "src", "path": "in"}],
                    outputs={"n": {"path": "n", "type": "integer"}},
                    artifacts=[{"name": "tree", "path": "out"}, {"name": "one", "path": "n"}],
                ),
                step(
                    "use",
                    'test "$N" = 6; test "$(cat t/deep/f)" = x; test "$(cat one)" = 5; echo used',
                    env={"N": "${{ steps.make.outputs.n + 1 }}"},
                    mounts=[
                        {"artifact": "make.tree", "path": "t"},
                        {"artifact": "make.one", "path": "one"},
                    ],
                ),
            ],
        }
    )
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    assert story.steps["make"].outputs == {"n": 5}
    assert ("make", "hello") in dagger_lab.lines
    assert ("use", "used") in dagger_lab.lines
    assert story.run.versions["dagger-engine"].startswith("v0.")


async def test_a_failing_step_gives_its_code_its_log_and_what_it_wrote(dagger_lab):
    script = "echo out; echo err >&2; echo 7 > n; exit 3"
    story = await dagger_lab.run(
        {"steps": [step("a", script, outputs={"n": {"path": "n", "type": "integer"}})]}
    )
    assert (story.run.phase, story.steps["a"].exit_code) == (Phase.FAILED, 3)
    assert story.steps["a"].outputs == {"n": 7}
    lines = [json.loads(line) for line in (await story.log("a")).splitlines()]
    assert {(one["stream"], one["line"]) for one in lines} >= {("stdout", "out"), ("stderr", "err")}


async def test_a_high_exit_code_is_the_steps_own(dagger_lab):
    story = await dagger_lab.run({"steps": [step("a", "echo before; exit 137")]})
    assert (story.run.phase, story.steps["a"].exit_code) == (Phase.FAILED, 137)
    assert ("a", "before") in dagger_lab.lines


async def test_lines_arrive_while_the_step_runs(dagger_lab):
    run = await dagger_lab.make({"steps": [step("a", "echo early; sleep 4; echo late")]})
    task = asyncio.create_task(dagger_lab.engine.execute(run, manifest.workflow(run.spec)))
    end = time.monotonic() + 60
    while ("a", "early") not in dagger_lab.lines and time.monotonic() < end:
        await asyncio.sleep(0.05)
    assert not task.done()
    assert ("a", "late") not in dagger_lab.lines
    await task
    assert dagger_lab.lines.count(("a", "late")) == 1
    assert dagger_lab.lines.count(("a", "early")) == 1


async def test_secrets_reach_the_step_and_never_its_log(dagger_lab):
    uses = [{"name": "TOKEN", "secret": "token"}, {"file": "t.txt", "secret": "token"}]
    script = 'test "$(cat t.txt)" = "$TOKEN"; echo "it is $TOKEN of ${#TOKEN}"'
    story = await dagger_lab.run({"secrets": ["token"], "steps": [step("a", script, secrets=uses)]})
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    log = await story.log("a")
    assert "it is *** of 12" in log
    assert "s3cr3t" not in log


async def test_a_step_really_runs_each_time_unless_it_may_be_cached(dagger_lab):
    script = "cat /proc/sys/kernel/random/uuid > id"
    outputs = {"id": {"path": "id"}}
    off = {"steps": [step("a", script, outputs=outputs)]}
    auto = {
        "steps": [step("a", script + "; true cacheable", outputs=outputs, cache={"mode": "Auto"})]
    }
    ids = [(await dagger_lab.run(spec)).steps["a"].outputs["id"] for spec in (off, off, auto, auto)]
    assert ids[0] != ids[1]
    assert ids[2] == ids[3]


async def test_cancelling_ends_the_container(dagger_lab):
    run = await dagger_lab.make({"steps": [step("a", "echo up; sleep 300")]})
    task = asyncio.create_task(dagger_lab.engine.execute(run, manifest.workflow(run.spec)))
    while ("a", "up") not in dagger_lab.lines:
        await asyncio.sleep(0.05)
    dagger_lab.engine.cancel(run.id)
    async with asyncio.timeout(30):
        await task
    assert (await dagger_lab.story(run.id)).phases == {"a": "Cancelled"}


async def test_an_image_that_does_not_exist_is_an_error_for_a_person(dagger_lab):
    story = await dagger_lab.run({"steps": [step("a", image=f"{IMAGE}-nope")]})
    assert (story.run.phase, story.steps["a"].reason) == (Phase.ERROR, "ImageNotFound")
    assert story.steps["a"].attempts == 1


async def test_a_private_image_needs_its_login(dagger_lab):
    if PRIVATE is None:
        pytest.skip("needs RONDEL_TEST_PRIVATE_IMAGE and its login")
    spec = {"steps": [step("a", "echo private", image=PRIVATE)]}
    assert (await dagger_lab.run(spec)).run.phase is Phase.SUCCEEDED
    other = await dagger_lab.run(spec, source="other")  # the login is not for this source
    assert (other.run.phase, other.steps["a"].reason) == (Phase.ERROR, "LoginFailed")


def sessions(lab) -> list[int]:
    """Return the processes of this test's own sessions: its keeper's children."""
    keeper = lab.engine._executors["dagger"]._keeper.pid
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    return [int(pid) for pid in children]


async def test_a_lost_session_is_infrastructure_and_the_step_is_tried_again(dagger_lab, tmp_path):
    run = await dagger_lab.make(
        {"steps": [step("a", '[ "$RONDEL_ATTEMPT" -ge 2 ] || { echo up; sleep 300; }')]}
    )
    task = asyncio.create_task(dagger_lab.engine.execute(run, manifest.workflow(run.spec)))
    while ("a", "up") not in dagger_lab.lines:
        await asyncio.sleep(0.05)
    for pid in sessions(dagger_lab):
        import os

        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        await task
    story = await dagger_lab.story(run.id)
    assert story.run.phase is Phase.SUCCEEDED
    assert [str(one.reason) for one in story.attempts] == ["SessionLost", ""]


async def test_a_wrong_login_is_an_error_for_a_person(dagger_lab, monkeypatch):
    if PRIVATE is None:
        pytest.skip("needs RONDEL_TEST_PRIVATE_IMAGE and its login")
    executor = dagger_lab.engine._executors["dagger"]

    async def operator(_):
        return "not the password"

    monkeypatch.setattr(executor._secrets, "operator", operator)
    story = await dagger_lab.run({"steps": [step("a", image=PRIVATE)]})
    assert (story.run.phase, story.steps["a"].reason) == (Phase.ERROR, "LoginFailed")
    assert story.steps["a"].attempts == 1


async def test_no_line_is_lost_or_doubled_whatever_letters_are_cut_on_the_way(dagger_lab):
    count = 40_000  # some hundred pieces; those cut inside a letter never come live
    script = f'i=0; while [ $i -lt {count} ]; do echo "$i größe€"; i=$((i+1)); done'
    story = await dagger_lab.run({"steps": [step("a", script)]})
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    lines = [json.loads(line)["line"] for line in (await story.log("a")).splitlines()]
    # A piece that is missing tears a line at either end: those are told again, whole.
    assert not {f"{number} größe€" for number in range(count)} - set(lines)
    assert len(lines) < count * 1.05


async def test_bytes_that_are_no_text_are_shown_as_such(dagger_lab):
    await dagger_lab.run({"steps": [step("a", "printf 'a\\377b\\n'; echo after")]})
    assert [text for _, text in dagger_lab.lines] == ["a\ufffdb", "after"]


async def test_the_engines_cache_knows_inputs_by_content(dagger_lab, tmp_path):
    data = tmp_path / "root" / "data"
    data.mkdir()
    spec = {
        "inputs": [{"name": "src", "path": "data"}],
        "steps": [
            step(
                "a",
                f"cat a.txt >/dev/null; cat /proc/sys/kernel/random/uuid > id  # {tmp_path}",
                mounts=[{"input": "src", "path": "."}],
                outputs={"id": {"path": "id"}},
                cache={"mode": "Auto"},
            )
        ],
    }
    found = []
    for text in ("one", "one", "two"):
        (data / "a.txt").write_text(text)
        found.append((await dagger_lab.run(spec)).steps["a"].outputs["id"])
    assert found[0] == found[1] != found[2]


async def test_a_missing_working_directory_is_made(dagger_lab):
    story = await dagger_lab.run({"steps": [step("a", "pwd; echo 1 > f", workdir="deep/er")]})
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    assert ("a", "/work/deep/er") in dagger_lab.lines


async def test_an_image_with_a_user_of_its_own_writes_its_workspace_and_reads_its_secrets(
    dagger_lab,
):
    if NOT_ROOT is None:
        pytest.skip("needs RONDEL_TEST_USER_IMAGE")
    uses = [{"file": "deep/t.txt", "secret": "token"}]
    script = "id -u; echo 1 > n; cat deep/t.txt > /dev/null"
    story = await dagger_lab.run(
        {
            "secrets": ["token"],
            "steps": [
                step("a", script, image=NOT_ROOT, secrets=uses, outputs={"n": {"path": "n"}})
            ],
        }
    )
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    assert ("a", "0") not in dagger_lab.lines


async def test_the_commands_process_never_sees_a_secret(dagger_lab):
    uses = [{"name": "TOKEN", "secret": "token"}]
    spec = {"secrets": ["token"], "steps": [step("a", "echo up; sleep 3", secrets=uses)]}
    run = await dagger_lab.make(spec)
    task = asyncio.create_task(dagger_lab.engine.execute(run, manifest.workflow(run.spec)))
    while ("a", "up") not in dagger_lab.lines:
        await asyncio.sleep(0.05)
    seen = b"".join(
        Path(f"/proc/{pid}/{name}").read_bytes()
        for pid in sessions(dagger_lab)
        for name in ("environ", "cmdline")
    )
    await task
    assert seen
    assert b"s3cr3t" not in seen


async def test_many_steps_at_once_in_one_session(dagger_lab):
    steps = [step(f"s{i}", f"echo line-{i}; exit 0") for i in range(10)]
    story = await dagger_lab.run({"steps": steps})
    assert story.run.phase is Phase.SUCCEEDED
    assert sorted(text for _, text in dagger_lab.lines) == sorted(f"line-{i}" for i in range(10))


async def test_a_step_without_an_image_is_refused_before_anything_runs(dagger_lab):
    story = await dagger_lab.run({"steps": [{"name": "a", "script": "true"}]})
    assert (story.run.phase, story.run.reason) == (Phase.ERROR, "ImageMissing")
