import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import digest, manifest
from controller.errors import UsageError
from controller.manifest import schema
from controller.manifest.graph import Graph, cycle, order
from controller.model.run import Run, Trigger
from controller.model.workflow import Backoff, CacheMode, Step

FULL = """\
apiVersion: rondel/v1alpha1
kind: Workflow
metadata: {name: full, description: All of it., labels: {team: data}}
spec:
  suspend: true
  when: "${{ params.region != 'none' }}"
  params:
    - {name: region, enum: [eu, us], default: eu}
    - {name: day, default: "${{ run.date }}"}
    - {name: rate, type: number, default: 1}
    - {name: must, type: integer}
  schedules:
    - {name: nightly, cron: "30 2 * * *", timeZone: Europe/Berlin, jitter: 10m, params: {region: us, must: 3}}
  concurrencyPolicy: Queue
  priority: 5
  maxParallel: 4
  startingDeadline: 2h
  catchUp: Latest
  maxCatchUp: 7
  timeout: 2h
  finallyTimeout: 1m
  onInterrupt: Rerun
  inputs:
    - {name: src, path: reports/, ignore: ["*.md"]}
  secrets: [db-url, token]
  defaults:
    image: python:3.12-slim
    retry: {limit: 2, exitCodes: [75], backoff: {duration: 1s, jitter: false}}
    cache: {mode: Auto, ttl: 1d}
    timeout: 10m
    env: {A: a, B: b}
    mounts: [{input: src, path: .}]
  steps:
    - name: extract-rows
      script: x
      env: {B: c, N: 5}
      outputs: {count: {path: count.txt, type: integer, default: 0}}
      artifacts: [{name: rows, path: rows.json}]
      secrets: [{name: DB, secret: db-url}, {file: tok, secret: token}]
      retry: {limit: 5, backoff: {factor: 3}}
    - name: render
      args: [x, "${{ steps.extract_rows.outputs.count }}"]
      continueOnError: {exitCodes: [3]}
      successExitCodes: [4]
      cache: {mode: Off}
    - name: publish
      needs: [render]
      mounts: [{artifact: extract-rows.rows, path: rows.json}]
      agent: publisher
      inputs: {a: 1}
      timeout: 1m
  outputs: {count: "${{ steps.extract_rows.outputs.count }}"}
  onFailure: [{name: page, script: x, env: {P: "${{ run.phase }}"}}]
  finally: [{name: clean, script: x, env: {P: "${{ steps.render.phase }}"}}]
"""
HEAD = "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {name: a}\nspec:\n"


def parsed(text=FULL):
    found = manifest.parse_file("f.yaml", text.encode(), source="main")
    assert [fault for one in found.documents for fault in one.faults] == []
    return found


def workflow(text=FULL):
    return manifest.workflow(parsed(text).documents[0].body)


def test_every_field_reaches_the_workflow():
    found = workflow()
    assert (found.name, found.labels, found.suspend) == ("full", {"team": "data"}, True)
    assert (found.priority, found.max_parallel, found.max_catch_up) == (5, 4, 7)
    assert found.timeout == timedelta(hours=2)
    assert found.finally_timeout == timedelta(minutes=1)
    assert found.schedules[0].jitter == timedelta(minutes=10)
    assert found.inputs[0].ignore == ("*.md",)
    assert found.on_change is None
    assert [step.name for step in found.on_failure + found.finally_] == ["page", "clean"]


def test_defaults_lie_below_every_step():
    extract, render, publish = workflow().steps
    assert extract.env == {"A": "a", "B": "c", "N": 5}
    assert extract.image == publish.image == "python:3.12-slim"
    assert (extract.retry.limit, extract.retry.exit_codes) == (5, (75,))
    assert extract.retry.backoff == Backoff(duration=timedelta(seconds=1), factor=3, jitter=False)
    assert (render.cache.mode, render.cache.ttl) == (CacheMode.OFF, timedelta(days=1))
    assert (render.timeout, publish.timeout) == (timedelta(minutes=10), timedelta(minutes=1))
    assert [mount.input for mount in render.mounts] == ["src"]
    assert [mount.artifact for mount in publish.mounts] == ["extract-rows.rows"]


def test_needs_are_implied_by_expressions_and_mounts():
    extract, render, publish = workflow().steps
    assert extract.needs == ()
    assert render.needs == ("extract-rows",)
    assert publish.needs == ("render", "extract-rows")
    assert workflow().finally_[0].needs == ()


def test_forgiven_and_successful_exit_codes_are_told_apart():
    render = workflow().step("render")
    assert render.continue_on_error == (3,)
    assert render.success_exit_codes == (0, 4)


def test_the_declaration_holds_what_the_planner_needs():
    declaration = parsed().documents[0].declaration
    assert declaration.key == ("main", "full")
    assert declaration.file == "f.yaml"
    assert declaration.blob == digest.git_blob(FULL.encode())
    assert declaration.suspended
    assert declaration.secrets == ("db-url", "token")
    assert declaration.schedules == workflow().schedules
    assert declaration.inputs == workflow().inputs


def test_suspending_leaves_the_specs_digest_alone():
    digests = {parsed(FULL.replace("suspend: true", f"suspend: {word}")).documents[0].declaration.spec_digest for word in ("true", "false")}  # fmt: skip
    assert len(digests) == 1
    other = parsed(FULL.replace("priority: 5", "priority: 6")).documents[0].declaration
    assert other.spec_digest not in digests


def test_comments_and_the_order_of_keys_leave_the_specs_digest_alone():
    one = parsed(HEAD + "  priority: 1 # first\n  steps: [{name: s, script: x}]\n")
    two = parsed(HEAD + "  steps:\n    - script: x\n      name: s\n  priority: 1\n")
    assert one.documents[0].declaration.spec_digest == two.documents[0].declaration.spec_digest


def test_the_index_of_a_file_reads_back_without_bodies():
    found = parsed(FULL + "---\nkind: Other\n")
    again = manifest.decode(manifest.encode(found), source="main", path="f.yaml", blob=found.blob)
    assert again.documents[0].declaration == found.documents[0].declaration
    assert again.documents[0].body is None
    assert again.ignored == 1


def test_a_moved_file_is_decoded_as_its_new_place():
    found = parsed()
    again = manifest.decode(manifest.encode(found), source="b", path="g.yaml", blob=found.blob)
    (declaration,) = [one.declaration for one in again.documents if one.declaration]
    assert declaration.key == ("b", "full")
    assert declaration.file == "g.yaml"


NAME = st.from_regex(r"[a-z]([-a-z0-9]{0,6}[a-z0-9])?", fullmatch=True)
DURATION = st.sampled_from(["250ms", "90s", "10m", "1h30m", "7d"])
TEXT = st.text("abc $\n'\"{}é", min_size=1, max_size=12).filter(lambda text: "${{" not in text)
NOTHING: dict[str, st.SearchStrategy[Any]] = {}
AXIS = st.sampled_from(["a", "b-c", "item"])
VALUES = st.dictionaries(AXIS, st.none() | st.booleans() | st.integers(-9, 9) | TEXT, min_size=1)
MATRIX = st.builds(
    lambda axes, rest: {**axes, **rest},
    st.dictionaries(AXIS, st.lists(st.integers(-9, 9) | TEXT | st.lists(st.none(), max_size=1), max_size=3), min_size=1, max_size=2),
    st.fixed_dictionaries(NOTHING, optional={"include": st.lists(VALUES, max_size=2), "maxParallel": st.integers(1, 9), "failFast": st.booleans()}),
)  # fmt: skip
STEP = st.fixed_dictionaries(
    {"script": TEXT},
    optional={
        "image": TEXT,
        "timeout": DURATION,
        "env": st.dictionaries(st.from_regex("[A-Z]{1,4}", fullmatch=True), TEXT | st.none() | st.integers(-9, 9) | st.booleans(), max_size=3),
        "retry": st.fixed_dictionaries({}, optional={"limit": st.integers(0, 100), "maxElapsed": DURATION, "backoff": st.fixed_dictionaries({}, optional={"duration": DURATION, "factor": st.integers(1, 9)})}),
        "continueOnError": st.booleans() | st.fixed_dictionaries({"exitCodes": st.lists(st.integers(1, 255), min_size=1, max_size=3)}),
        "successExitCodes": st.lists(st.integers(0, 255), min_size=1, max_size=3),
        "user": TEXT,
        "caches": st.lists(st.fixed_dictionaries({"key": TEXT, "path": NAME}, optional={"sharing": st.sampled_from(["Shared", "Private", "Locked"])}), max_size=2, unique_by=lambda one: str(one["path"])),
        "services": st.lists(st.fixed_dictionaries({"name": NAME, "image": TEXT}, optional={"args": st.lists(TEXT, min_size=1, max_size=2), "env": st.just({"A": None}), "readyWhen": st.just({"port": 80})}), max_size=2, unique_by=lambda one: str(one["name"])),
        "matrix": MATRIX,
        "cache": st.fixed_dictionaries({}, optional={"mode": st.sampled_from(["Off", "Auto", "Require"]), "ttl": DURATION}),
    },
)  # fmt: skip
SPEC = st.fixed_dictionaries(
    {"steps": st.dictionaries(NAME, STEP, min_size=1, max_size=4)},
    optional={
        "suspend": st.booleans(),
        "timeout": DURATION,
        "maxParallel": st.integers(1, 9),
        "catchUp": st.sampled_from(["None", "Latest", "All"]),
        "concurrencyPolicy": st.sampled_from(["Forbid", "Allow", "Replace", "Queue"]),
        "startingDeadline": DURATION,
        "schedules": st.just([{"cron": "@daily"}]) | st.just([{"cron": "@daily", "runPolicy": "IfChanged"}]),
        "triggers": st.just([{"onChange": ["spec"]}]) | st.lists(st.builds(lambda name, phases: {"workflow": f"s/{name}", "phases": phases}, NAME, st.lists(st.sampled_from(["Failed", "Error"]), min_size=1, unique=True)), max_size=2, unique_by=lambda one: one["workflow"]) | NAME.map(lambda name: [{"webhook": name, "params": {}}]),
        "queueTimeout": DURATION,
        "expectEvery": DURATION,
        "suspendAfter": st.fixed_dictionaries({"failures": st.integers(1, 9)}),
        "concurrency": st.fixed_dictionaries({"group": NAME}, optional={"limit": st.integers(1, 9)}),
        "history": st.fixed_dictionaries({}, optional={"successful": st.integers(0, 9), "failed": st.integers(0, 9), "keepLastSuccessful": st.booleans()}),
    },
)  # fmt: skip


@given(SPEC, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_workflow_and_index_are_total_for_valid_documents(spec, random):
    names = list(spec["steps"])
    steps = [{"name": name, "needs": random.sample(names[:index], random.randint(0, index)), **step} for index, (name, step) in enumerate(spec["steps"].items())]  # fmt: skip
    text = json.dumps({"apiVersion": "rondel/v1alpha1", "kind": "Workflow", "metadata": {"name": "a"}, "spec": {**spec, "steps": steps}})  # fmt: skip
    found = parsed(text)
    built = manifest.workflow(found.documents[0].body)
    assert [step.name for step in built.steps] == names
    assert list(order(built)) == [
        name for layer in Graph.of(built.steps).layers() for name in layer
    ]
    again = manifest.decode(manifest.encode(found), source="main", path="f.yaml", blob=found.blob)
    assert again.documents[0].declaration == found.documents[0].declaration


def test_the_order_puts_every_step_after_its_needs():
    assert order(workflow()) == ("extract-rows", "render", "publish")
    graph = Graph.of(workflow().steps)
    assert graph.dependents["extract-rows"] == ("render", "publish")
    assert graph.needs["publish"] == ("render", "extract-rows")


def test_a_need_outside_the_graph_is_left_out():
    assert Graph.of([Step(name="a", needs=("gone",))]).needs == {"a": ()}


def test_a_cycle_is_named_from_its_first_to_itself():
    circle = cycle({"a": ["b"], "b": ["c"], "c": ["a"], "d": []})
    assert circle[0] == circle[-1]
    assert set(circle) == {"a", "b", "c"}
    assert cycle({"a": ["b"], "b": []}) == ()


def run(**fields):
    at = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    base = {"id": "x", "source": "s", "workflow": "full", "trigger": Trigger.MANUAL, "identity": "manual:1", "created_at": at}  # fmt: skip
    return Run(**{**base, **fields})


def test_params_are_the_given_ones_else_defaults_over_the_run():
    found = manifest.resolve_params(workflow(), {"must": 3}, run(time_zone="Europe/Berlin"))
    assert found == {"region": "eu", "day": "2026-03-02", "rate": 1.0, "must": 3}
    assert isinstance(found["rate"], float)


def test_a_given_param_is_never_evaluated():
    found = manifest.resolve_params(workflow(), {"must": 3, "day": "${{ run.id }}"}, run())
    assert found["day"] == "${{ run.id }}"


@pytest.mark.parametrize(
    ("given_", "word"),
    [
        ({}, "must"),
        ({"must": "3"}, "integer"),
        ({"must": True}, "integer"),
        ({"must": 3, "region": "mars"}, "eu, us"),
        ({"must": 3, "regin": "eu"}, "'region'"),
    ],
)
def test_a_wrong_param_is_a_usage_error_that_names_it(given_, word):
    with pytest.raises(UsageError, match=word):
        manifest.resolve_params(workflow(), given_, run())


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        ("string", "1", "1"),
        ("integer", "1", 1),
        ("number", "1", 1.0),
        ("boolean", "true", True),
        ("list", "[1]", [1]),
        ("object", '{"a": null}', {"a": None}),
    ],
)
def test_a_param_is_read_from_text_by_its_type(type_, text, value):
    param = manifest.build_workflow({"name": "a"}, {"params": [{"name": "p", "type": type_}], "steps": [{"name": "s", "script": "x"}]})[0].params[0]  # fmt: skip
    found = manifest.read_param(param, text)
    assert found == value
    assert type(found) is type(value)
    if type_ != "string":
        for wrong in ("x", "NaN", "[" * 100_000, "{}" if type_ == "list" else "[]"):
            with pytest.raises(UsageError):
                manifest.read_param(param, wrong)


def test_a_program_builds_the_same_workflow_as_a_manifest():
    spec = {"steps": [{"name": "s", "args": ("a", "b")}]}
    built, body = manifest.build_workflow({"name": "a"}, spec)
    assert built == workflow(HEAD + "  steps: [{name: s, args: [a, b]}]\n")
    assert manifest.workflow(body) == built


def test_a_program_is_told_every_fault():
    with pytest.raises(UsageError) as caught:
        manifest.build_workflow({"name": "A"}, {"steps": [{"name": "s", "needs": ["t"]}]})
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("value", [{1, 2}, float("nan")])
def test_a_program_gives_json_values_only(value):
    with pytest.raises(UsageError, match="JSON"):
        manifest.build_workflow({"name": "a"}, {"steps": [{"name": "s", "agent": "x", "inputs": {"v": value}}]})  # fmt: skip


def test_the_schema_is_json_and_names_every_section():
    document = json.loads(schema.text("Workflow"))
    assert "finally" in document["$defs"]["spec"]["properties"]
    with pytest.raises(KeyError):
        schema.text("Nothing")
