"""The whole example, broken at random: every fault is told with its place, nothing crashes."""

import copy
import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from controller import manifest
from controller.manifest import tree

FULL = Path(__file__).parent / "manifests" / "full.yaml"
AROUND = b"""
---
apiVersion: rondel/v1alpha1
kind: Agent
metadata: {name: summariser}
spec:
  framework: dagger
  capabilities: [containerized_workflow]
  inputs: {type: object, required: [operation], properties: {operation: {type: string}}}
  container: {image: "python:3.12-slim", args: [python, agent.py], env: {}, mounts: []}
  outputs: {summary: {path: summary.json, type: json}}
---
apiVersion: rondel/v1alpha1
kind: Defaults
metadata: {name: reports-defaults}
spec: {defaults: {image: "python:3.12-slim"}, timeZone: Europe/Berlin, history: {successful: 5}}
"""
DOCUMENTS = [tree.value(one.root) for one in tree.read(FULL.read_bytes() + AROUND).trees]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True),
    st.sampled_from(
        [
            "",
            " ",
            "${{",
            "${{ }}",
            "${{ params.region }}",
            "${{ steps.nobody.outputs.x }}",
            "${{ 1 / 0 }}",
            "../..",
            "/",
            "a" * 300,
            "\u0000",
            "\ud7ff",
            "* * * * *",
            "1h",
            "-1h",
            "Auto",
            [],
            {},
            [[]],
            [None],
            [{}],
            {"": ""},
            {"a": {"b": []}},
            [1, "1", 1.0],
        ]
    ),
    st.text(max_size=8),
)


def places(value, path=()):
    """Return the path of every value inside."""
    found = [path]
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            found += places(inner, (*path, key))
    return found


PLACES = [(number, path) for number, one in enumerate(DOCUMENTS) for path in places(one) if path]


def holder(documents, number, path):
    """Return the container that holds the last part of a path; None where it is gone by now."""
    found = documents[number]
    for part in path[:-1]:
        try:
            found = found[part]
        except (KeyError, IndexError, TypeError):
            return None
    return found


def changed(documents, number, path, how, value):
    inside, last = holder(documents, number, path), path[-1]
    there = (isinstance(inside, dict) and last in inside) or (
        isinstance(inside, list) and isinstance(last, int) and last < len(inside)
    )
    if not there:
        return
    if how == "drop":
        del inside[last]
    elif how == "twice" and isinstance(inside, list):
        inside.append(copy.deepcopy(inside[last]))
    elif how == "rename" and isinstance(inside, dict):
        inside[f"{last}x"] = inside.pop(last)
    else:
        inside[last] = value


BREAKS = st.lists(
    st.tuples(
        st.sampled_from(PLACES), st.sampled_from(["drop", "put", "put", "twice", "rename"]), ODD
    ),
    min_size=1,
    max_size=3,
)


def lines(documents):
    text = "\n---\n".join(json.dumps(one, indent=1) for one in documents)  # JSON is YAML
    return text, text.count("\n") + 1


@settings(max_examples=150, deadline=None)
@given(BREAKS)
def test_a_broken_example_is_refused_with_its_places_or_is_fine(breaks):
    documents = copy.deepcopy(DOCUMENTS)
    for (number, path), how, value in breaks:
        changed(documents, number, path, how, copy.deepcopy(value))
    text, count = lines(documents)
    parsed = manifest.parse_file("a.yaml", text.encode())
    for fault in parsed.all_faults:
        assert fault.file == "a.yaml"
        assert fault.problem
        assert 0 <= fault.line <= count
        assert bool(fault.line) == bool(fault.column)
    for one in parsed.documents:
        assert (one.body is None) == bool(one.faults)
        if one.declaration is not None and one.body is not None:
            assert manifest.workflow(one.body).name == one.name  # what is fine can be run


def test_the_example_itself_has_no_fault():
    text, _ = lines(DOCUMENTS)
    parsed = manifest.parse_file("a.yaml", text.encode())
    assert parsed.all_faults == ()
    assert [one.kind for one in parsed.documents] == ["Workflow", "Agent", "Defaults"]
