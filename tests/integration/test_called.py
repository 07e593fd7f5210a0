"""Workflows run as steps, on the real engine, store and local executor."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from controller import manifest
from controller.manifest.calls import with_calls
from controller.model.run import Phase, Trigger
from tests.engine_lab import lab as engine_lab

ADD = {
    "params": [{"name": "n", "type": "integer"}],
    "steps": [
        {
            "name": "work",
            "env": {"N": "${{ params.n }}"},
            "script": "echo $((N + 1)) > out",
            "outputs": {"out": {"path": "out", "type": "integer"}},
        }
    ],
    "outputs": {"next": "${{ steps.work.outputs.out }}"},
}
TIDY = [{"name": "tidy", "script": "echo tidied"}]


def body(name: str, spec: dict[str, Any], **called: str) -> str:
    """Return what a run of the spec is pinned to, with the bodies of what it calls."""
    _, text = manifest.build_workflow({"name": name}, spec)
    return with_calls(text, called) if called else text


def call(name: str, workflow: str, **words: Any) -> dict[str, Any]:
    params = words.pop("params", {})
    return {"name": name, "uses": {"workflow": workflow, "params": params}, **words}


def slow(mark: Any) -> dict[str, Any]:
    script = f"touch {mark}; sleep 60"
    return {"steps": [{"name": "work", "script": script}], "finally": TIDY}


async def executed(rig: Any, text: str, **words: Any) -> Any:
    return await rig.execute(manifest.workflow(text), spec=text, **words)


async def children(rig: Any, parent: str) -> list[Any]:
    """Return the stories of the runs that are steps of a run, the oldest first."""
    runs = await rig.store.read(lambda reader: reader.runs())
    return [await rig.story(one.id) for one in reversed(runs) if one.parent == parent]


async def there(mark: Any) -> None:
    async with asyncio.timeout(20):
        while not mark.exists():
            await asyncio.sleep(0.02)


async def test_it_is_a_run_of_its_own_on_its_callers_occasion(tmp_path):
    text = body("w", {"steps": [call("a", "add", params={"n": 4})]}, add=body("add", ADD))
    async with engine_lab(tmp_path) as rig:
        story = await executed(rig, text, trigger=Trigger.BACKFILL, fresh=True)
        (child,) = await children(rig, story.run.id)
    assert story.steps["a"].outputs == {"next": 5}
    assert (child.run.workflow, child.run.source, child.run.params) == ("add", "s", {"n": 4})
    assert (child.run.trigger, child.run.revision, child.run.fresh) == (
        Trigger.BACKFILL,
        "r1",
        True,
    )
    assert child.run.logical_time == story.run.logical_time
    assert child.run.identity == f"call:{story.run.id}:a.0.1"


async def test_calls_nest_and_one_place_for_steps_is_enough(tmp_path):
    middle = {
        "params": ADD["params"],
        "steps": [
            call("one", "add", params={"n": "${{ params.n }}"}),
            call("two", "add", params={"n": "${{ steps.one.outputs.next }}"}),
        ],
        "outputs": {"next": "${{ steps.two.outputs.next }}"},
    }
    spec = {
        "steps": [call("a", "middle", matrix={"n": [1, 2, 3]}, params={"n": "${{ matrix.n }}"})],
        "outputs": {"all": "${{ steps.a.outputs.next }}"},
    }
    text = body("w", spec, middle=body("middle", middle, add=body("add", ADD)))
    async with engine_lab(tmp_path, max_steps=1) as rig, asyncio.timeout(60):
        story = await executed(rig, text)
        runs = await rig.store.read(lambda reader: reader.runs())
    assert story.run.outputs == {"all": [3, 4, 5]}
    assert len(runs) == 1 + 3 + 6
    assert {one.phase for one in runs} == {Phase.SUCCEEDED}


@pytest.mark.parametrize(
    ("inner", "params", "told"),
    [
        ({"steps": [{"name": "x", "script": "exit 3"}]}, {}, "Failed/CalledFailed"),
        (
            {
                "steps": [
                    {
                        "name": "x",
                        "env": {"N": "${{ 1 / int(run.revision.size() - 2) }}"},
                        "script": "a",
                    }
                ]
            },
            {},
            "Error/CalledError",
        ),
        (ADD, {"n": "${{ run.id }}"}, "Error/InvalidParams"),
        (ADD, {}, "Error/InvalidParams"),
        (ADD, {"n": 1, "m": 2}, "Error/InvalidParams"),
        (
            {"when": "${{ run.fresh }}", "steps": [{"name": "x", "script": "a"}]},
            {},
            "Skipped/ConditionFalse",
        ),
    ],
)
async def test_what_it_has_come_to_is_what_its_step_has_come_to(tmp_path, inner, params, told):
    text = body("w", {"steps": [call("a", "inner", params=params)]}, inner=body("inner", inner))
    async with engine_lab(tmp_path) as rig:
        story = await executed(rig, text)
        made = await children(rig, story.run.id)
    assert story.told() == {"a": told}
    if "Called" in told:
        assert made[0].run.id in story.steps["a"].error
    assert len(made) == (0 if "InvalidParams" in told else 1)


async def test_each_attempt_is_another_run(tmp_path):
    script = f"echo x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) = 3 ]"
    inner = body("inner", {"steps": [{"name": "x", "script": script}]})
    retry = {"limit": 2, "backoff": {"duration": "0s", "jitter": False}}
    text = body("w", {"steps": [call("a", "inner", retry=retry)]}, inner=inner)
    async with engine_lab(tmp_path) as rig:
        story = await executed(rig, text)
        made = await children(rig, story.run.id)
    assert story.told() == {"a": "Succeeded"}
    assert [str(one.run.phase) for one in made] == ["Failed", "Failed", "Succeeded"]
    assert [one.run.identity[-1] for one in made] == ["1", "2", "3"]


async def test_over_its_steps_timeout_it_is_cancelled_and_tidies_up(tmp_path):
    inner = body("inner", slow(tmp_path / "mark"))
    text = body("w", {"steps": [call("a", "inner", timeout="1s")]}, inner=inner)
    async with engine_lab(tmp_path) as rig:
        story = await executed(rig, text)
        (child,) = await children(rig, story.run.id)
    assert story.told() == {"a": "Failed/Timeout"}
    assert child.phase is Phase.CANCELLED
    assert child.told() == {"work": "Cancelled/Cancelled", "tidy": "Succeeded"}


@pytest.mark.parametrize("now", [False, True])
async def test_cancelled_two_deep_every_run_ends_and_tidies_up_unless_it_must_end_now(
    tmp_path, now
):
    middle = body(
        "middle",
        {"steps": [call("b", "inner")], "finally": TIDY},
        inner=body("inner", slow(tmp_path / "mark")),
    )
    text = body("w", {"steps": [call("a", "middle")], "finally": TIDY}, middle=middle)
    async with engine_lab(tmp_path) as rig, asyncio.timeout(30):
        run = await rig.claimed(spec=text)
        task = asyncio.create_task(rig.engine.execute(run, manifest.workflow(text)))
        await there(tmp_path / "mark")
        assert rig.engine.cancel(run.id, now=now)
        assert await task is Phase.CANCELLED
        runs = await rig.store.read(lambda reader: reader.runs())
        stories = [await rig.story(one.id) for one in runs]
    tidied = "Skipped/RunEnded" if now else "Succeeded"
    assert {one.phase for one in stories} == {Phase.CANCELLED}
    assert [one.told()["tidy"] for one in stories] == [tidied] * 3


async def test_cancelled_by_itself_it_ends_its_step(tmp_path):
    inner = body("inner", slow(tmp_path / "mark"))
    text = body("w", {"steps": [call("a", "inner")]}, inner=inner)
    async with engine_lab(tmp_path) as rig:
        run = await rig.claimed(spec=text)
        task = asyncio.create_task(rig.engine.execute(run, manifest.workflow(text)))
        await there(tmp_path / "mark")
        (child,) = await children(rig, run.id)
        assert rig.engine.cancel(child.run.id)
        await task
        story = await rig.story(run.id)
    assert story.told() == {"a": "Cancelled/CalledCancelled"}


async def test_its_inputs_are_its_own_also_when_its_caller_runs_again(tmp_path):
    (tmp_path / "rows").write_text("1 2 3")
    inner = {
        "inputs": [{"name": "rows", "path": "rows"}],
        "steps": [{"name": "x", "mounts": [{"input": "rows", "path": "r"}], "script": "cat r"}],
    }
    text = body("w", {"steps": [call("a", "inner")]}, inner=body("inner", inner))
    async with engine_lab(tmp_path) as rig:
        story = await executed(rig, text, trigger=Trigger.RERUN)
        (child,) = await children(rig, story.run.id)
        assert await child.text("x") == "1 2 3"
    assert story.phase is Phase.SUCCEEDED
    assert list(child.run.inputs) == ["rows"]


async def test_a_call_is_never_served_from_the_cache_and_its_steps_are(lab):
    kept = {"defaults": {"cache": {"mode": "Auto"}}}
    inner = {
        **kept,
        "steps": [
            {"name": "x", "image": "i", "script": "echo 1 > o", "outputs": {"o": {"path": "o"}}}
        ],
    }
    text = body("w", {**kept, "steps": [call("a", "inner")]}, inner=body("inner", inner))
    for _ in range(2):
        run = replace(await lab.make({"steps": [{"name": "x", "script": "x"}]}), spec=text)
        await lab.engine.execute(run, manifest.workflow(text))
        story = await lab.story(run.id)
        (child,) = await children(lab, run.id)
    assert not story.steps["a"].cached
    assert child.steps["x"].cached
