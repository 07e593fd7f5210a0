"""Workflows as they stand: with the Defaults of their folders and the agents of their source."""

import json

import pytest

from controller import manifest
from controller.manifest import schema
from controller.manifest.agents import agent, pinned
from controller.manifest.around import PLAIN, Around
from controller.model.settings import DaggerSettings
from controller.reconcile.surroundings import Surroundings, composed

HEAD = "apiVersion: rondel/v1alpha1\n"
FLOW = HEAD + (
    "kind: Workflow\nmetadata: {name: flow}\nspec:\n"
    "  schedules: [{cron: '0 2 * * *'}]\n"
    "  defaults: {env: {B: mine}, image: own}\n"
    "  steps: [{name: a, script: 'true'}]\n"
)
USER = HEAD + (
    "kind: Workflow\nmetadata: {name: user}\nspec:\n  steps:\n"
    "    - {name: sum, agent: summariser, inputs: {operation: transform}}\n"
    "    - {name: b, script: x, env: {S: '${{ steps.sum.outputs.summary }}'}}\n"
)
AGENT = HEAD + (
    "kind: Agent\nmetadata: {name: summariser}\nspec:\n"
    "  inputs: {type: object, required: [operation], properties: {operation: {type: string}}}\n"
    "  container: {image: 'python:3.12', args: [python, agent.py], env: {A: '1'}, user: '1000'}\n"
    "  outputs: {summary: {path: summary.json, type: json}}\n"
)


def defaults(spec: str) -> str:
    return f"{HEAD}kind: Defaults\nmetadata: {{name: d}}\nspec: {spec}\n"


def read(files: dict[str, str], operator=None, *, closed=True):
    """Read files as a source does; return them, and what stood around them."""

    def parse(path, around):
        return manifest.parse_file(path, files[path].encode(), around=around)

    plain = {path: parse(path, PLAIN) for path in files}
    around = Surroundings(operator=operator or {}, closed=closed).advanced(plain)
    return composed(plain, around, parse), around


def spec_of(file):
    return json.loads(file.documents[0].body)["spec"]


def faults_of(file):
    return [*file.faults, *(fault for one in file.documents for fault in one.faults)]


def test_the_nearest_defaults_win_maps_merge_and_lists_replace():
    files, _ = read(
        {
            "defaults.yaml": defaults(
                "{timeZone: Europe/Berlin, defaults: {env: {A: far, B: far, C: far},"
                " image: far, shell: [bash, -c]}, history: {successful: 5, failed: 5}}"
            ),
            "team/defaults.yaml": defaults(
                "{defaults: {env: {C: near}, shell: [sh]}, history: {failed: 7}}"
            ),
            "team/flow.yaml": FLOW,
        }
    )
    spec = spec_of(files["team/flow.yaml"])
    assert spec["defaults"] == {
        "env": {"A": "far", "B": "mine", "C": "near"},
        "image": "own",
        "shell": ["sh"],
    }
    assert spec["schedules"] == [{"cron": "0 2 * * *", "timeZone": "Europe/Berlin"}]
    assert spec["history"] == {"successful": 5, "failed": 7}
    declaration = files["team/flow.yaml"].documents[0].declaration
    assert declaration.schedules[0].time_zone == "Europe/Berlin"


def test_defaults_hold_for_their_folder_and_below_only():
    alone, _ = read({"flow.yaml": FLOW})
    files, _ = read(
        {"flow.yaml": FLOW, "team/defaults.yaml": defaults("{timeZone: Europe/Berlin}")}
    )
    assert files["flow.yaml"] == alone["flow.yaml"]


def test_what_stands_around_is_part_of_the_digest_and_of_what_a_text_is_known_by():
    alone, _ = read({"flow.yaml": FLOW})
    files, _ = read({"flow.yaml": FLOW, "d.yaml": defaults("{timeZone: Europe/Berlin}")})
    before = alone["flow.yaml"].documents[0].declaration
    after = files["flow.yaml"].documents[0].declaration
    assert before.spec_digest != after.spec_digest
    assert after.blob.startswith(before.blob + "+")
    assert alone["flow.yaml"].blob == before.blob


def test_the_index_brings_everything_back():
    files, _ = read(
        {"u.yaml": USER, "a.yaml": AGENT, "d.yaml": defaults("{timeZone: Europe/Berlin}")}
    )
    for path, file in files.items():
        again = manifest.decode(manifest.encode(file), source="", path=path, blob=file.blob)
        assert [(one.kind, one.name, one.declaration) for one in again.documents] == [
            (one.kind, one.name, one.declaration) for one in file.documents
        ]
        if file.documents[0].kind != "Workflow":
            assert again == file


@pytest.mark.parametrize(
    "bad",
    [
        {"team/d.yaml": defaults("{timezone: UTC}")},
        {"team/d.yaml": defaults("{}"), "team/e.yaml": defaults("{}")},
        {"d.yaml": defaults("{timeZone: Mars}")},
    ],
    ids=["a fault", "two of them", "above"],
)
def test_broken_defaults_hold_back_the_workflows_below_them(bad):
    files, _ = read({"team/flow.yaml": FLOW, **bad})
    (fault,) = faults_of(files["team/flow.yaml"])
    assert fault.reason == "DefaultsInvalid"
    assert fault.file in bad
    assert files["team/flow.yaml"].documents[0].name == "flow"


def test_two_defaults_in_one_folder_and_two_agents_of_one_name_are_faults():
    _, around = read(
        {"a.yaml": defaults("{}"), "b.yaml": defaults("{}"), "x/c.yaml": AGENT, "y/d.yaml": AGENT}
    )
    told = [(one.file, one.problem) for one in around.faults()]
    assert told == [
        ("b.yaml", "its folder has Defaults already, in a.yaml:1"),
        ("y/d.yaml", "Agent 'summariser' is also declared in x/c.yaml:1"),
    ]
    assert around.agents == {}


def test_an_agents_outputs_are_known_where_it_is_used():
    files, around = read({"u.yaml": USER, "a.yaml": AGENT})
    assert not faults_of(files["u.yaml"])
    wrong, _ = read({"u.yaml": USER.replace("summary", "sumary"), "a.yaml": AGENT})
    (fault,) = faults_of(wrong["u.yaml"])
    assert "steps.sum.outputs.sumary" in fault.problem
    assert "steps.sum.outputs.summary" in fault.remedy
    assert fault.line == 7
    run = manifest.workflow(
        pinned(files["u.yaml"].documents[0].body, DaggerSettings(), around.agents)
    )
    step = run.step("sum")
    assert (step.image, step.args, step.env, step.user) == (
        "python:3.12",
        ("python", "agent.py"),
        {"A": "1"},
        "1000",
    )
    assert step.inputs_schema is not None
    assert step.inputs_schema["required"] == ["operation"]
    assert run.step("b").needs == ("sum",)


@pytest.mark.parametrize(
    ("inputs", "problem", "pointer"),
    [
        ("{operation: 7}", "7 is not of type 'string'", "/spec/steps/0/inputs/operation"),
        ("{}", "'operation' is a required property", "/spec/steps/0/inputs"),
        ("{operation: '${{ run.id }}'}", "", ""),
    ],
)
def test_literal_inputs_are_checked_against_the_agents_schema(inputs, problem, pointer):
    files, _ = read({"u.yaml": USER.replace("{operation: transform}", inputs), "a.yaml": AGENT})
    found = [(one.problem.partition(": ")[2], one.pointer) for one in faults_of(files["u.yaml"])]
    assert found == ([(problem, pointer)] if problem else [])


def test_an_agent_that_nobody_defines_is_a_fault_only_where_that_is_known():
    files, _ = read({"u.yaml": USER})
    (fault, *others) = faults_of(files["u.yaml"])
    assert (fault.problem, fault.pointer) == (
        "there is no agent 'summariser'",
        "/spec/steps/0/agent",
    )
    assert others, "its outputs are unknown too"
    files, _ = read({"u.yaml": USER}, closed=False)
    assert not faults_of(files["u.yaml"])


def test_of_one_name_the_sources_agent_wins_over_the_operators():
    operator = {"summariser": agent("summariser", {"container": {"image": "operators"}})}
    _, around = read({"u.yaml": USER, "a.yaml": AGENT}, operator)
    assert (
        around.around("u.yaml", ["summariser"]).agents["summariser"].container.image
        == "python:3.12"
    )
    files, _ = read({"u.yaml": USER.replace(".outputs.summary", ".phase")}, operator)
    assert not faults_of(files["u.yaml"])


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ("{}", "/spec"),
        ("{container: {image: a}, module: {ref: a, version: b, call: c}}", "/spec"),
        ("{container: {args: [a]}}", "/spec/container"),
        ("{container: {image: a}, capabilities: [dance]}", "/spec/capabilities/0"),
        ("{container: {image: a}, inputs: {type: 7}}", "/spec/inputs/type"),
    ],
)
def test_a_faulty_agent_says_where(spec, pointer):
    text = f"{HEAD}kind: Agent\nmetadata: {{name: a}}\nspec: {spec}\n"
    found = faults_of(manifest.parse_file("a.yaml", text.encode()))
    assert pointer in {one.pointer for one in found}, found


def test_what_is_inherited_says_so():
    files, _ = read(
        {
            "flow.yaml": FLOW,
            "d.yaml": defaults("{defaults: {mounts: [{input: src, path: .}]}}"),
        }
    )
    (fault,) = faults_of(files["flow.yaml"])
    assert fault.problem == "there is no input 'src' (from the Defaults of its folder)"


@pytest.mark.parametrize("kind", ["Agent", "Defaults"])
def test_the_parts_that_schemas_share_are_the_same(kind):
    ours, theirs = schema.document(kind)["$defs"], schema.document("Workflow")["$defs"]
    for name in ours.keys() & theirs.keys():
        assert ours[name] == theirs[name], name


def test_nothing_around_has_no_mark():
    assert PLAIN.mark == ""
    assert Around(defaults={"timeZone": "UTC"}).mark
