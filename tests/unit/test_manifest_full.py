"""The whole language in one manifest: read without a fault, built, evaluated, rendered, indexed."""

from datetime import timedelta
from pathlib import Path

import pytest

from controller import manifest
from controller.manifest.evaluate import evaluated
from controller.manifest.expression import ExpressionError
from controller.manifest.rendered import rendered
from controller.model.workflow import (
    CacheSharing,
    CacheVolume,
    Concurrency,
    History,
    ModuleCall,
    RunPolicy,
    Service,
    Step,
    Upstream,
    Webhook,
    WorkflowCall,
)

FULL = (Path(__file__).parent / "manifests/full.yaml").read_bytes()
HEAD = "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {name: a}\nspec:\n"


def parsed(data=FULL):
    found = manifest.parse_file("full.yaml", data, source="main")
    assert [str(fault) for one in found.documents for fault in one.faults] == []
    return found


def workflow(data=FULL):
    return manifest.workflow(parsed(data).documents[0].body)


def test_the_full_example_says_when_runs_start():
    found = workflow()
    declared = parsed().documents[0].declaration
    for one in (found, declared):
        assert [schedule.run_policy for schedule in one.schedules] == [
            RunPolicy.ALWAYS,
            RunPolicy.IF_CHANGED,
        ]
        assert one.on_change is not None
        assert one.upstreams == (Upstream(workflow="upstream", params={"region": "eu"}),)
        assert one.webhooks == (Webhook(receiver="deploy-hook"),)
        assert one.concurrency == Concurrency(group="warehouse", limit=2)
        assert one.queue_timeout == timedelta(minutes=30)
        assert one.history == History(successful=10, failed=20)
        assert one.suspend_after == 5
        assert one.expect_every == timedelta(hours=26)
    assert declared.alerts == ("ops",)
    assert declared.secrets == ("warehouse-url",)


def test_the_full_example_says_what_runs():
    found = workflow()
    extract, render, regions, check, summarise, publish = found.steps
    assert extract.user == "1000"
    assert extract.caches == (CacheVolume(key="pip", path="/root/.cache/pip"),)
    assert (render.matrix.axes, render.matrix.max_parallel) == ({"format": ["html", "pdf"]}, 2)
    assert (regions.matrix.item, regions.needs) == ("region", ("extract",))
    assert check.module == ModuleCall(
        ref="github.com/acme/report-module",
        version="3f786850e387550fdab836ed7e6dc881de23001b",
        call="check",
        args={"strict": True},
    )
    assert summarise.agent == "summariser"
    assert publish.services == (Service(name="db", image="postgres:16", ready_port=5432),)
    assert publish.needs == ("render", "summarise", "each-region")
    assert found.on_failure == (Step(name="page", alert="ops"),)


def test_the_index_of_the_full_example_reads_back():
    found = parsed()
    again = manifest.decode(
        manifest.encode(found), source="main", path="full.yaml", blob=found.blob
    )
    assert again.documents[0].declaration == found.documents[0].declaration


def test_the_full_example_renders_to_itself():
    full = rendered(FULL, 0)
    steps = {step["name"]: step for step in full["spec"]["steps"]}
    assert steps["each-region"]["needs"] == ["extract"]
    assert steps["each-region"]["image"] == "python:3.12-slim"
    assert full["spec"]["onFailure"] == [{"name": "page", "alert": "ops"}]


SPEC = """\
  params: [{name: tag, default: "16"}, {name: who, default: "7"}]
  defaults:
    user: "1"
    image: alpine:3
    caches: [{key: pip, path: cache}]
    services: [{name: db, image: "postgres:${{ params.tag }}", env: {A: "${{ params.who }}"}}]
    retry: {limit: 2}
    timeout: 1m
  steps:
    - {name: plain, script: x}
    - name: own
      script: x
      user: "${{ params.who }}"
      caches: [{key: "c-${{ steps.plain.exitCode }}", path: d, sharing: Locked}]
      services: []
    - name: called
      uses: {workflow: other, params: {n: "${{ steps.own.exitCode }}"}}
    - name: function
      module:
        ref: github.com/a/b
        version: 3f786850e387550fdab836ed7e6dc881de23001b
        call: build-all
        args: {n: ["${{ steps.called.outputs.rows }}"]}
  onFailure: [{name: page, alert: ops, when: "${{ steps.plain.phase == 'Failed' }}"}]
"""


def test_defaults_give_users_caches_and_services_where_a_process_runs():
    found = workflow((HEAD + SPEC).encode())
    plain, own, called, function = found.steps
    assert (plain.user, len(plain.caches), len(plain.services)) == ("1", 1, 1)
    assert (own.user, own.services) == ("${{ params.who }}", ())
    assert own.caches[0].sharing is CacheSharing.LOCKED
    assert (called.image, called.user, called.services, called.caches) == (None, None, (), ())
    assert (called.retry.limit, called.timeout) == (2, timedelta(minutes=1))
    assert function.image == "alpine:3"
    assert found.on_failure[0].timeout is None


def test_needs_are_implied_by_caches_params_of_a_call_and_arguments_of_a_function():
    _, own, called, function = workflow((HEAD + SPEC).encode()).steps
    assert own.needs == ("plain",)
    assert called.needs == ("own",)
    assert function.needs == ("called",)


def test_a_declaration_names_the_workflows_it_calls():
    assert parsed((HEAD + SPEC).encode()).documents[0].declaration.calls == ("other",)


SCOPE = {
    "params": {"tag": "16", "who": "7"},
    "matrix": {"size": 3},
    "steps": {"plain": {"exitCode": 0}, "own": {"exitCode": 4}, "called": {"outputs": {"rows": 9}}},
}


def test_everything_of_a_step_that_may_hold_expressions_is_evaluated():
    plain, own, called, function = workflow((HEAD + SPEC).encode()).steps
    assert evaluated(plain, SCOPE).services == (
        Service(name="db", image="postgres:16", env={"A": "7"}),
    )
    assert evaluated(own, SCOPE).user == "7"
    assert evaluated(own, SCOPE).caches[0].key == "c-0"
    assert evaluated(called, SCOPE).uses == WorkflowCall(workflow="other", params={"n": 4})
    module = evaluated(function, SCOPE).module
    assert module is not None
    assert module.args == {"n": [9]}


def test_a_combination_is_seen_as_matrix():
    step = Step(name="s", args=("x", "${{ matrix.size }}"), env={"N": "${{ matrix.size }}"})
    assert evaluated(step, SCOPE).args == ("x", "3")
    assert evaluated(step, SCOPE).env == {"N": 3}


@pytest.mark.parametrize("text", ["${{ params.none }}", "${{ '' }}"])
def test_a_cache_without_a_key_is_an_error(text):
    step = Step(name="s", script="x", caches=(CacheVolume(key=text, path="c"),))
    with pytest.raises(ExpressionError):
        evaluated(step, SCOPE)


def test_a_caches_path_is_confined_again():
    step = Step(name="s", script="x", caches=(CacheVolume(key="k", path="${{ params.up }}"),))
    with pytest.raises(ExpressionError, match=r"'\.\.'"):
        evaluated(step, {"params": {"up": "../x"}})
