"""What kept results of the dagger executor would serve: images by their last digest, secrets."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from controller import manifest
from controller.forecasts import Forecasts
from controller.model.run import Phase
from controller.model.settings import DirectorySource, SecretRef, Settings
from controller.reconcile.preview import Action, ChangeKind, Fate, Preview, Side
from controller.store import Reader
from tests.integration import test_dagger_runs
from tests.integration.test_dagger_runs import step

double = test_dagger_runs.double
dagger_lab = test_dagger_runs.dagger_lab
KEPT = {"cache": {"mode": "Auto"}}
TOKEN = {"secrets": [{"name": "TOKEN", "secret": "token"}]}


class Later:
    """A clock that is ahead by so much."""

    def __init__(self, clock, by: timedelta) -> None:
        self._clock, self._by = clock, by

    def now(self):
        return self._clock.now() + self._by

    def monotonic(self) -> float:
        return float(self._clock.monotonic())


def spec(image="tool:1", script="mkdir out; echo 1 > out/f", **more):
    made = step("make", script, image=image, artifacts=[{"name": "out", "path": "out"}], **more)
    use = step("use", "cat in/f", mounts=[{"artifact": "make.out", "path": "in"}])
    secrets = {"secrets": ["token"]} if more else {}
    return {"defaults": KEPT, "steps": [made, use], **secrets}


def side(spec):
    text = json.dumps(
        {
            "apiVersion": "rondel/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": "w"},
            "spec": spec,
        }
    )
    parsed = manifest.parse_file("w.yaml", text.encode(), source="test")
    (document,) = parsed.documents
    assert document.declaration is not None, parsed.all_faults
    return Side(declarations={"w": document.declaration}, bodies={"w": document.body or ""})


@pytest.fixture
def foretold(dagger_lab, tmp_path):
    """Return what is foretold of a spec: the action, and each step's fate and why."""

    async def call(spec, *, version="3", later=timedelta(0), configured=True, causes=None):
        token = SecretRef(name="token", version=version)
        settings = Settings(
            state_dir=tmp_path / "state",
            sources=(DirectorySource(name="test", path=str(tmp_path)),),
            secrets={"token": token} if configured else {},
        )
        clock = Later(dagger_lab.clock, later)
        with Reader.open(tmp_path / "state") as reader:
            forecasts = Forecasts(settings, "test", reader, clock, side(spec))
            running = Preview(name="w", change=ChangeKind.CHANGED, action=Action.RUN)
            found = await forecasts.advance(running)
        if causes is not None:
            causes.extend(one.message for one in found.causes)
        return found.action, {one.name: (one.fate, one.message) for one in found.steps}

    return call


async def test_an_image_counts_with_the_digest_that_it_had_last(dagger_lab, foretold):
    story = await dagger_lab.run(spec())
    assert story.run.phase is Phase.SUCCEEDED
    action, steps = await foretold(spec())
    assert action is Action.CACHED
    for fate, message in steps.values():
        assert fate is Fate.CACHED
        assert message.startswith(
            f"the result of run {story.run.id}, assuming tool:1 unmoved since "
        )
    again = await dagger_lab.run(spec())
    assert all(row.cached for row in again.steps.values()), "that is what happens then"


async def test_an_image_that_nobody_has_used_leaves_it_open(dagger_lab, foretold):
    await dagger_lab.run(spec())
    action, steps = await foretold(spec(image="tool:2"))
    assert action is Action.UNKNOWN
    assert steps["make"] == (Fate.UNKNOWN, "no run of late has used the image tool:2")
    assert steps["use"] == (Fate.UNKNOWN, "it waits for make")


async def test_what_differs_is_named(dagger_lab, foretold):
    await dagger_lab.run(spec(**TOKEN))
    assert (await foretold(spec(**TOKEN)))[0] is Action.CACHED
    action, steps = await foretold(spec(**TOKEN), version="4")
    assert action is Action.RUN
    assert steps["make"][0] is Fate.RUN
    assert "secret.token was" in steps["make"][1]
    _, steps = await foretold(spec(**TOKEN), configured=False)
    assert steps["make"] == (
        Fate.UNKNOWN,
        "the configuration that was read has no secret token",
    )


async def test_a_result_whose_artifact_is_gone_or_whose_time_is_over_serves_nothing(
    dagger_lab, foretold
):
    story = await dagger_lab.run(spec())
    action, steps = await foretold(spec(), later=timedelta(days=8))
    assert action is Action.RUN
    assert steps["make"] == (Fate.RUN, f"the result of run {story.run.id} has expired")
    blobs = dagger_lab.store.blobs
    blobs.path(story.steps["make"].artifacts["out"]).unlink()
    action, steps = await foretold(spec())
    assert action is Action.RUN
    assert steps["make"][1].startswith(f"the result of run {story.run.id} is damaged: ")


async def test_a_run_that_nothing_is_kept_of_is_a_run(dagger_lab, foretold):
    plain = {**spec(), "defaults": {}}
    await dagger_lab.run(plain)
    assert await foretold(plain) == (Action.RUN, {})


async def test_a_run_that_its_own_when_skips_follows_for_nothing(dagger_lab, foretold):
    off = {**spec(), "when": "${{ run.trigger == 'Manual' }}"}
    await dagger_lab.run(off)
    causes: list[str] = []
    assert await foretold(off, causes=causes) == (Action.NOTHING, {})
    assert causes == ["the run is skipped: the workflow's `when` is false"]


async def test_only_what_would_start_is_foretold(dagger_lab, tmp_path):
    settings = Settings(state_dir=tmp_path / "state")
    resting = Preview(name="w", change=ChangeKind.NONE, action=Action.NOTHING)
    with Reader.open(tmp_path / "state") as reader:
        forecasts = Forecasts(settings, "test", reader, dagger_lab.clock, side(spec()))
        assert await forecasts.advance(resting) is resting
        gone = replace(resting, name="gone", action=Action.RUN)
        assert await forecasts.advance(gone) is gone
