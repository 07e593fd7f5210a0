"""What a run is pinned to, under the operator's configuration."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from controller import manifest
from controller.errors import UsageError
from controller.manifest.agents import pinned, until_step
from controller.model.agent import Agent, DaggerContainerConfig
from controller.model.settings import DaggerSettings
from controller.model.workflow import CacheMode, CachePolicy, Output

AGENT = Agent(
    name="data-fetcher",
    container=DaggerContainerConfig(image="tool:1", args=("fetch",), env={"A": "1", "B": "1"}),
    outputs=(Output(name="rows", path="rows.json"),),
)
SETTINGS = DaggerSettings(agents={"data-fetcher": AGENT})


def body(spec) -> str:
    return json.dumps({"metadata": {"name": "w"}, "spec": spec})


def test_without_an_operators_word_the_body_stays_as_it_is():
    text = body({"steps": [{"name": "a", "script": "true"}]})
    assert pinned(text, DaggerSettings()) is text


def test_the_operators_defaults_stand_where_the_manifest_says_nothing():
    operator = replace(
        DaggerSettings(),
        workflow_timeout=timedelta(minutes=5),
        retry_limit=2,
        cache=CachePolicy(mode=CacheMode.AUTO, ttl=timedelta(days=1)),
    )
    plain = manifest.workflow(pinned(body({"steps": [{"name": "a", "script": "x"}]}), operator))
    assert plain.timeout == timedelta(minutes=5)
    assert plain.steps[0].retry.limit == 2
    assert plain.steps[0].cache == CachePolicy(mode=CacheMode.AUTO, ttl=timedelta(days=1))
    spec = {
        "timeout": "1h",
        "defaults": {"retry": {"limit": 1}},
        "steps": [{"name": "a", "script": "x", "cache": {"mode": "Off"}}],
    }
    own = manifest.workflow(pinned(body(spec), operator))
    assert own.timeout == timedelta(hours=1)
    assert own.steps[0].retry.limit == 1
    assert own.steps[0].cache.mode is CacheMode.OFF


def test_an_agent_becomes_its_container_and_the_steps_own_words_win():
    spec = {
        "steps": [{"name": "a", "agent": "data_fetcher", "inputs": {"n": 1}, "env": {"B": "2"}}]
    }
    step = manifest.workflow(pinned(body(spec), SETTINGS)).steps[0]
    assert (step.image, step.args, step.inputs) == ("tool:1", ("fetch",), {"n": 1})
    assert step.env == {"A": "1", "B": "2"}
    assert [one.name for one in step.outputs] == ["rows"]


def test_an_unknown_agent_is_named_with_the_nearest_one():
    spec = {"steps": [{"name": "a", "agent": "data-fetch"}]}
    with pytest.raises(UsageError, match="data-fetcher"):
        pinned(body(spec), SETTINGS)


def test_a_run_until_a_step_holds_what_that_step_needs():
    steps = [
        {"name": "a", "script": "x", "outputs": {"o": {"path": "o"}}},
        {"name": "b", "script": "x", "env": {"O": "${{ steps.a.outputs.o }}"}},
        {"name": "c", "script": "x"},
        {"name": "d", "script": "x", "needs": ["b"]},
    ]
    kept = manifest.workflow(until_step(body({"steps": steps}), "b"))
    assert [step.name for step in kept.steps] == ["a", "b"]
