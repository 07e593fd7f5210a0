"""Faults between manifests of one source."""

import pytest

from controller import manifest
from controller.manifest.between import awaited, between
from controller.model.source import ParsedDocument

HEAD = "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {{name: {}}}\nspec:\n  {}\n"


def faults(specs, groups=()):
    documents: list[ParsedDocument] = []
    for name, spec in specs.items():
        lines = spec if "steps:" in spec else f"{spec}\n  steps: [{{name: s, script: x}}]"
        parsed = manifest.parse_file(f"{name}.yaml", HEAD.format(name, lines).encode())
        documents += parsed.documents
    return tuple(between(documents, groups=groups).values())


def group(limit=None):
    return "concurrency: {group: g" + (f", limit: {limit}" if limit else "") + "}"


def calls(name):
    return f"steps: [{{name: s, uses: {{workflow: {name}}}}}]"


def after(name):
    return f"triggers: [{{workflow: {name}}}]"


@pytest.mark.parametrize(
    ("specs", "groups"),
    [
        ({"a": group(2), "b": group(2), "c": group()}, ()),
        ({"a": group(), "b": group()}, {"g"}),
        ({"a": calls("b"), "b": after("a"), "c": calls("other/a")}, ()),
        ({"a": calls("b"), "b": "parms: []"}, ()),
    ],
)
def test_manifests_that_go_together_have_no_fault(specs, groups):
    assert faults(specs, groups) == ()


def test_two_limits_for_one_group_are_a_fault_of_both_that_names_both():
    first, second = faults({"a": group(2), "b": group(3), "c": group()})
    assert (first.file, second.file) == ("a.yaml", "b.yaml")
    assert (first.line, first.pointer) == (1, "/spec/concurrency/limit")
    assert "2 in a.yaml, 3 in b.yaml" in first.problem


def test_a_group_without_any_limit_is_a_fault():
    (fault,) = faults({"a": group()})
    assert "no limit" in fault.problem


def test_the_limit_of_a_group_of_the_configuration_is_to_be_left_out():
    (fault,) = faults({"a": group(2), "b": group()}, {"g"})
    assert (fault.file, fault.remedy) == ("a.yaml", "leave it out")


def test_an_upstream_that_is_not_there_may_come_later_and_is_told():
    assert faults({"a": after("nightyl"), "nightly": "priority: 1"}) == ()
    data = HEAD.format("a", after("nightyl") + "\n  steps: [{name: s, script: x}]").encode()
    (told,) = awaited(manifest.parse_file("a.yaml", data).documents, {"a", "nightly"})
    assert (told.pointer, told.remedy) == ("/spec/triggers", "did you mean 'nightly'?")


def test_a_workflow_that_is_not_there_gets_the_nearest_name():
    (fault,) = faults({"a": calls("nightyl"), "nightly": "priority: 1"})
    assert fault.file == "a.yaml"
    assert fault.remedy == "did you mean 'nightly'?"


@pytest.mark.parametrize("link", [calls, after])
def test_workflows_that_go_round_are_each_at_fault(link):
    found = faults({"a": link("b"), "b": link("c"), "c": link("a"), "d": link("a"), "e": link("f"), "f": link("e")})  # fmt: skip
    assert [fault.file for fault in found] == [f"{name}.yaml" for name in "abcef"]
    assert all(fault.problem.count(" -> ") in {2, 3} for fault in found)
