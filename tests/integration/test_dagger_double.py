"""The adapter with the real SDK, on a double that speaks GraphQL over HTTP."""

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from controller.clock import SystemClock
from controller.errors import StalledError, TransientError
from controller.execute.dagger import DaggerExecutor, check, command
from controller.execute.engine import RunEngine
from controller.model.run import Phase
from controller.model.settings import DaggerSettings, Registry, SecretRef
from controller.secrets import ConfiguredSecrets
from controller.store import Store
from tests.conftest import QUICK, Inputs, Lab

SERVER = Path(__file__).parents[1] / "dagger_double" / "server.py"


class Double:
    """The folder of one double, and the settings that lead to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        cli = folder / "dagger"
        cli.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SERVER}" "{folder}"\n')
        cli.chmod(cli.stat().st_mode | stat.S_IXUSR)
        self.settings = DaggerSettings(
            cli=str(cli),
            default_registry="registry.test",
            registries=(
                Registry(host="private.test", username="ci", secret="password", sources=("test",)),
            ),
        )

    def behave(self, **how) -> None:
        (self.folder / "behave.json").write_text(json.dumps(how))

    @property
    def commands(self) -> list[list[tuple[str, dict[str, Any]]]]:
        path = self.folder / "commands.json"
        return json.loads(path.read_text()) if path.exists() else []

    def calls(self, field: str, command: int = -1) -> list[dict[str, Any]]:
        return [given for name, given in self.commands[command] if name == field]


@pytest.fixture
def double(tmp_path):
    return Double(tmp_path / "double")


@pytest.fixture
async def dagger_lab(tmp_path, double):
    clock = SystemClock()
    (tmp_path / "root").mkdir()
    store = await Store.open(tmp_path / "state", clock=clock, kind="exec")
    (tmp_path / "token").write_text("s3cr3t-value")
    secrets = ConfiguredSecrets(
        {
            "token": SecretRef(
                name="token", file=str(tmp_path / "token"), version="3", sources=("test",)
            ),
            "password": SecretRef(name="password", file=str(tmp_path / "token")),
        }
    )
    executor = DaggerExecutor(
        double.settings, secrets=secrets, state_dir=tmp_path / "state", clock=clock
    )
    made: list[Lab] = []
    engine = RunEngine(
        ledger=store,
        blobs=store.blobs,
        inputs=Inputs(tmp_path / "root"),
        secrets=secrets,
        executors={"dagger": executor},
        clock=clock,
        state_dir=tmp_path / "state",
        max_steps=20,
        log_max_size=64 << 20,
        infrastructure_retry=QUICK,
        on_line=lambda _, step, __, ___, text: made[0].lines.append((step, text)),
    )
    made.append(Lab(store, engine, clock))
    yield made[0]
    await engine.stop()
    await store.close()


def step(name, script="true", image="tool:1", **fields):
    return {"name": name, "script": script, "image": image, **fields}


async def test_a_run_passes_outputs_artifacts_and_inputs(dagger_lab, double, tmp_path):
    (tmp_path / "root" / "data").mkdir()
    (tmp_path / "root" / "data" / "a.txt").write_text("hello")
    story = await dagger_lab.run(
        {
            "inputs": [{"name": "src", "path": "data"}],
            "steps": [
                step(
                    "make",
                    "cat in/a.txt; echo 5 > n; mkdir out; echo x > out/f",
                    mounts=[{"input": "src", "path": "in"}],
                    outputs={"n": {"path": "n", "type": "integer"}},
                    artifacts=[{"name": "tree", "path": "out"}],
                ),
                step(
                    "use",
                    'test "$N" = 6; test "$(cat t/f)" = x; echo used',
                    env={"N": "${{ steps.make.outputs.n + 1 }}"},
                    mounts=[{"artifact": "make.tree", "path": "t"}],
                ),
            ],
        }
    )
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    assert story.steps["make"].outputs == {"n": 5}
    assert ("make", "hello") in dagger_lab.lines
    assert ("use", "used") in dagger_lab.lines
    assert story.run.versions["dagger-engine"] == "v0.21.7-double"
    assert double.calls("from")[0]["address"].startswith("registry.test/tool:1@sha256:")


async def test_the_runs_own_names_are_volatile_and_the_buster_stands_before_the_command(
    dagger_lab, double
):
    await dagger_lab.run({"steps": [step("a", env={"MINE": "1"})]})
    fields = [name for name, _ in double.commands[-1]]
    volatile = {given["name"] for given in double.calls("withVolatileVariable")}
    assert {"RONDEL_RUN_ID", "RONDEL_ATTEMPT", "RONDEL_STEP"} <= volatile
    assert double.calls("withEnvVariable")[0] == {"name": "MINE", "value": "1"}
    assert fields[-2:] == ["withEnvVariable", "withExec"]
    assert double.calls("withEnvVariable")[-1]["name"] == "RONDEL_NONCE"
    assert double.calls("withExec")[0]["expect"] == "ANY"


async def test_a_step_that_may_be_cached_has_no_buster_and_keeps_no_failure(dagger_lab, double):
    await dagger_lab.run({"steps": [step("a", cache={"mode": "Auto"})]})
    assert double.calls("withEnvVariable") == []
    assert double.calls("withExec")[0].get("expect", "SUCCESS") == "SUCCESS"


async def test_secrets_go_by_file_under_a_versioned_key(dagger_lab, double):
    uses = [{"name": "TOKEN", "secret": "token"}, {"file": "t.txt", "secret": "token"}]
    script = 'test "$(cat t.txt)" = "$TOKEN"; echo "it is $TOKEN"'
    story = await dagger_lab.run({"secrets": ["token"], "steps": [step("a", script, secrets=uses)]})
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    assert "it is ***" in await story.log("a")
    from tests.dagger_double.server import decoded

    (handle,) = double.calls("withSecretVariable")
    given = dict(decoded(handle["secret"]))["secret"]
    assert given["cacheKey"] == "test/token@3"
    assert given["uri"].startswith("file://")
    assert "s3cr3t" not in (double.folder / "commands.json").read_text()
    assert "s3cr3t" not in (double.folder / "environ.json").read_text()


async def test_a_failed_step_gives_its_code_its_log_and_what_it_wrote(dagger_lab):
    script = "echo out; echo err >&2; echo 7 > n; exit 3"
    story = await dagger_lab.run(
        {"steps": [step("a", script, outputs={"n": {"path": "n", "type": "integer"}})]}
    )
    assert (story.steps["a"].exit_code, story.steps["a"].outputs) == (3, {"n": 7})
    lines = [json.loads(line) for line in (await story.log("a")).splitlines()]
    assert {(one["stream"], one["line"]) for one in lines} == {("stdout", "out"), ("stderr", "err")}


async def test_codes_that_are_raised_whatever_is_expected_are_the_steps_own(dagger_lab):
    story = await dagger_lab.run({"steps": [step("a", "echo before; exit 137")]})
    assert (story.run.phase, story.steps["a"].exit_code) == (Phase.FAILED, 137)
    assert dagger_lab.lines.count(("a", "before")) == 1


@pytest.mark.timeout(60)
async def test_what_does_not_come_live_is_asked_for(dagger_lab, double):
    double.behave(silent=True)
    await dagger_lab.run({"steps": [step("a", "echo late; echo more")]})
    assert dagger_lab.lines == [("a", "late"), ("a", "more")]


async def test_a_broken_gateway_is_infrastructure_and_tried_again(dagger_lab, double):
    double.behave(status=[502])
    story = await dagger_lab.run({"steps": [step("a")]})
    assert story.run.phase is Phase.SUCCEEDED
    assert [one.reason for one in story.attempts] == ["SessionLost", ""]


async def test_images_that_are_missing_or_refused_are_errors_for_a_person(dagger_lab):
    for image, reason in (("missing:1", "ImageNotFound"), ("other.test/private:1", "LoginFailed")):
        story = await dagger_lab.run({"steps": [step("a", image=image)]})
        assert (story.run.phase, story.steps["a"].reason) == (Phase.ERROR, reason)
        assert story.steps["a"].attempts == 1


async def test_a_login_is_used_for_the_sources_it_names_only(dagger_lab, double):
    spec = {"steps": [step("a", image="private.test/private:1")]}
    assert (await dagger_lab.run(spec)).run.phase is Phase.SUCCEEDED
    assert double.calls("withRegistryAuth")[0]["username"] == "ci"
    assert (await dagger_lab.run(spec, source="other")).steps["a"].reason == "LoginFailed"


async def test_an_agents_inputs_are_in_the_file_it_is_told_of(dagger_lab):
    spec = {"steps": [step("a", 'cat "$RONDEL_INPUTS"', inputs={"n": 1})]}
    from controller import ids, manifest
    from controller.model.changes import ClaimRun, CreateRun
    from controller.reconcile.runs import manual_run

    workflow, body = manifest.build_workflow({"name": "w"}, spec, expanded=True)
    now = dagger_lab.clock.now()
    run = manual_run("test", "w", key=ids.nonce(), now=now, spec=body)
    claim = ClaimRun(run=run.id, instance=dagger_lab.store.instance, at=now)
    await dagger_lab.store.record(CreateRun(run=run), claim)
    await dagger_lab.engine.execute(run, workflow)
    assert dagger_lab.lines == [("a", '{"n": 1}')]


async def test_check_tells_the_versions(double):
    assert (await check(double.settings))["dagger-engine"] == "v0.21.7-double"


async def test_an_engine_that_never_answers_is_given_up_on(double, monkeypatch):
    double.behave(mute=True)
    monkeypatch.setattr(command, "OPEN_SECONDS", 0.5)
    monkeypatch.setattr(command, "END_SECONDS", 0.2)
    with pytest.raises(TransientError) as caught:
        await check(double.settings)
    assert caught.value.reason == "EngineUnavailable"


async def test_a_command_that_is_not_there_says_so():
    with pytest.raises(StalledError) as caught:
        await check(DaggerSettings(cli="no-such-dagger"))
    assert caught.value.reason == "DaggerMissing"
