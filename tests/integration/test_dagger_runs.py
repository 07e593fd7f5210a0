"""Whole runs through the dagger executor, on an engine's double."""

import pytest

from controller.clock import SystemClock
from controller.execute.dagger import DaggerExecutor
from controller.execute.engine import RunEngine
from controller.manifest.agents import agent
from controller.model.run import Phase
from controller.model.settings import DaggerSettings, SecretRef
from controller.model.workflow import Artifact, Matrix, Mount, Step, Workflow
from controller.secrets import ConfiguredSecrets
from controller.store import Store
from tests.conftest import QUICK, Inputs, Lab
from tests.dagger_double.cli import Cli
from tests.dagger_double.engine import Engine


@pytest.fixture
async def double():
    engine = Engine()
    yield engine, await engine.start()
    await engine.stop()


@pytest.fixture
async def dagger_lab(tmp_path, double, monkeypatch):
    clock = SystemClock()
    (tmp_path / "root").mkdir()
    (tmp_path / "memory").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "memory"))
    store = await Store.open(tmp_path / "state", clock=clock, kind="exec")
    (tmp_path / "token").write_text("s3cr3t-value")
    token = SecretRef(name="token", file=str(tmp_path / "token"), version="3", sources=("test",))
    secrets = ConfiguredSecrets({"token": token})
    settings = DaggerSettings(cli=str(Cli(tmp_path, double[1]).path))
    executor = DaggerExecutor(settings, secrets=secrets, state_dir=tmp_path / "state", clock=clock)
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
        results=store,
        on_line=lambda _, step, __, ___, text: made[0].lines.append((step, text)),
    )
    made.append(Lab(store, engine, clock))
    await engine.start()
    yield made[0]
    await engine.stop()
    await store.close()


def step(name, script="true", **fields):
    return {"name": name, "script": script, "image": "tool:1", **fields}


async def test_a_run_passes_outputs_artifacts_and_inputs(dagger_lab, tmp_path):
    (tmp_path / "root" / "data").mkdir()
    (tmp_path / "root" / "data" / "a.txt").write_text("hello")
    make = step(
        "make",
        "cat in/a.txt; echo 5 > n; mkdir out; echo x > out/f",
        mounts=[{"input": "src", "path": "in"}],
        outputs={"n": {"path": "n", "type": "integer"}},
        artifacts=[{"name": "tree", "path": "out"}],
    )
    use = step(
        "use",
        'test "$N" = 6; test "$(cat t/f)" = x; echo used',
        env={"N": "${{ steps.make.outputs.n + 1 }}"},
        mounts=[{"artifact": "make.tree", "path": "t"}],
    )
    story = await dagger_lab.run(
        {"inputs": [{"name": "src", "path": "data"}], "steps": [make, use]}
    )
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    assert story.steps["make"].outputs == {"n": 5}
    assert {("make", "hello"), ("use", "used")} <= set(dagger_lab.lines)
    assert story.run.versions["dagger-engine"] == "v0.21.7"
    assert "@sha256:" in story.run.versions["image:tool:1"], "known once its first step had run"


async def test_a_lost_session_is_infrastructure_and_the_step_is_tried_again(dagger_lab, double):
    statuses = [502]
    double[0].broken = lambda query: statuses.pop() if "withExec" in query and statuses else None
    story = await dagger_lab.run({"steps": [step("a")]})
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    assert [one.reason for one in story.attempts] == ["SessionLost", ""]


@pytest.mark.parametrize(
    ("words", "reason"),
    [("pull access denied", "LoginFailed"), ("manifest unknown", "ImageNotFound")],
)
async def test_an_image_that_a_person_must_mend_is_tried_once(dagger_lab, double, words, reason):
    double[0].refusals["docker.io/tool:1"] = words
    story = await dagger_lab.run({"steps": [step("a")]})
    assert (story.run.phase, story.steps["a"].reason) == (Phase.ERROR, reason)
    assert story.steps["a"].attempts == 1


async def test_a_registry_that_is_away_is_tried_again_and_ends_as_an_error(dagger_lab, double):
    double[0].refusals["docker.io/tool:1"] = "received unexpected HTTP status: 503"
    story = await dagger_lab.run({"steps": [step("a")]})
    assert (story.run.phase, story.steps["a"].reason) == (Phase.ERROR, "RegistryUnavailable")
    assert story.steps["a"].attempts == 1 + QUICK.limit


async def test_secrets_are_keyed_by_their_version_and_scrubbed(dagger_lab, double):
    uses = [{"name": "TOKEN", "secret": "token"}]
    spec = {"secrets": ["token"], "steps": [step("a", 'echo "it is $TOKEN"', secrets=uses)]}
    story = await dagger_lab.run(spec)
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    assert dagger_lab.lines == [("a", "it is ***")]
    assert 'cacheKey: "test/token@3"' in "".join(double[0].requests)


async def test_a_failed_step_keeps_what_it_wrote(dagger_lab):
    spec = {"steps": [step("a", "echo 7 > n; exit 3", outputs={"n": {"path": "n"}})]}
    story = await dagger_lab.run(spec)
    assert (story.run.phase, story.steps["a"].exit_code) == (Phase.FAILED, 3)
    assert story.steps["a"].outputs == {"n": "7"}


async def test_an_image_is_part_of_a_key_by_its_digest(dagger_lab, double):
    spec = {"steps": [step("a", "echo hi", cache={"mode": "Auto"})]}
    first = await dagger_lab.run(spec)
    [image] = [name for name in first.run.versions if name == "image:tool:1"]
    assert "@sha256:" in first.run.versions[image]
    [entry] = await dagger_lab.store.read(lambda r: r.cache_entries())
    assert entry.parts["image"] == first.run.versions[image]
    assert entry.parts["executor"] == "dagger"
    second = await dagger_lab.run(spec)
    assert second.steps["a"].cached
    assert second.run.versions[image] == first.run.versions[image]
    double[0].digests["docker.io/tool:1"] = "sha256:" + "9" * 64
    moved = await dagger_lab.run(spec)
    assert [one["part"] for one in moved.steps["a"].cache["differs"]] == ["image"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("manifest unknown", "ImageNotFound"),
        ("received unexpected HTTP status: 503", "RegistryUnavailable"),
    ],
)
async def test_an_image_that_can_not_be_resolved_ends_the_run_before_its_first_step(
    dagger_lab, double, words, reason
):
    double[0].refusals["docker.io/tool:1"] = words
    story = await dagger_lab.run({"steps": [step("a", cache={"mode": "Auto"})]})
    assert (story.run.phase, story.run.reason) == (Phase.ERROR, reason)
    assert "image tool:1" in story.run.message
    assert story.attempts == []


async def test_a_tag_that_moves_during_a_run_spoils_no_result(dagger_lab, double):
    def lost_once(query):
        if "withExec" not in query or not statuses:
            return None
        double[0].digests["docker.io/tool:1"] = "sha256:" + "9" * 64
        return statuses.pop()

    statuses = [502]
    double[0].broken = lost_once
    story = await dagger_lab.run({"steps": [step("a", cache={"mode": "Auto"})]})
    assert [one.reason for one in story.attempts] == ["SessionLost", ""]
    addresses = {one.args("from")[-1]["address"] for one in double[0].executions}
    assert addresses == {f"docker.io/tool:1@sha256:{'0' * 64}"}


async def test_a_matrix_runs_in_one_session_and_its_artifacts_mount_as_a_folder(dagger_lab):
    each = Step(
        name="each",
        image="tool:1",
        script='echo "$F" > f; echo "made $F"',
        env={"F": "${{ matrix.f }}"},
        matrix=Matrix(axes={"f": ["a", "b", "c"]}),
        artifacts=(Artifact(name="f", path="f"),),
    )
    use = Step(
        name="use",
        image="tool:1",
        script="cat all/0 all/1 all/2",
        mounts=(Mount(artifact="each.f", path="all"),),
        needs=("each",),
    )
    run = await dagger_lab.make({"steps": [step("unused")]})
    await dagger_lab.engine.execute(run, Workflow(name="w", steps=(each, use)))
    story = await dagger_lab.story(run.id)
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    assert sorted(dagger_lab.lines) == [
        *((f"each[f={letter}]", f"made {letter}") for letter in "abc"),
        *(("use", letter) for letter in "abc"),
    ]


async def test_an_agents_inputs_are_in_the_file_it_is_told_of(dagger_lab):
    teller = agent("teller", {"container": {"image": "tool:1", "script": 'cat "$RONDEL_INPUTS"'}})
    spec = {"steps": [{"name": "a", "agent": "teller", "inputs": {"n": 1}}]}
    story = await dagger_lab.run(spec, agents={"teller": teller})
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    assert dagger_lab.lines == [("a", '{"n": 1}')]
