"""Workflows that call others: what is pinned, and what is said of what can't be."""

import json

import pytest

from controller import manifest
from controller.errors import StalledError
from controller.manifest import calls
from controller.manifest.around import Around
from controller.manifest.calls import called_first, interface, with_calls

HEAD = "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {name: w}\nspec:\n"


def called(graph):
    return called_first("a", lambda name: graph.get(name, ()))


def chain(length):
    return {"a": ("b1",), **{f"b{n}": (f"b{n + 1}",) for n in range(1, length)}}


def spec(*names):
    return json.dumps(
        {
            "metadata": {"name": "w"},
            "spec": {
                "steps": [
                    {"name": f"s{i}", "uses": {"workflow": one}} for i, one in enumerate(names)
                ]
            },
        }
    )


def test_each_is_named_once_and_after_those_that_it_calls():
    assert called({"a": ("b", "c"), "b": ("d",), "c": ("d", "e")}) == ("d", "b", "e", "c", "a")


def test_ten_calls_inside_calls_are_the_most():
    assert len(called(chain(10))) == 11
    with pytest.raises(StalledError, match="more than 10 calls deep: a -> b1") as caught:
        called(chain(11))
    assert caught.value.reason == "CallsTooDeep"


def test_what_was_looked_at_from_a_higher_place_counts_where_it_is_deepest():
    deep = {**chain(8), "a": ("b5", "b1"), "b8": ("c1",), "c1": ("c2",), "c2": ("c3",)}
    with pytest.raises(StalledError, match="more than 10 calls deep"):
        called(deep)


def test_workflows_that_use_each_other_are_named_in_order():
    with pytest.raises(StalledError, match="use each other: a -> b -> a"):
        called({"a": ("b",), "b": ("a",)})


def test_another_source_can_not_be_reached():
    with pytest.raises(StalledError, match="of another source") as caught:
        called({"a": ("other/b",)})
    assert caught.value.reason == "CallUnknown"


def test_workflows_that_share_what_they_call_do_not_grow_without_bound(monkeypatch):
    monkeypatch.setattr(calls, "LARGEST", 3000)
    bodies = {"n0": spec()}
    with pytest.raises(StalledError, match="more than 3,000") as caught:
        for n in range(1, 40):  # each calls two that call the same: their copies double
            twin = bodies[f"n{n - 1}"]
            bodies[f"n{n}"] = with_calls(
                spec(f"n{n - 1}", "twin"), {f"n{n - 1}": twin, "twin": twin}
            )
    assert caught.value.reason == "CallsTooLarge"
    assert max(map(len, bodies.values())) < 4000


def test_each_call_has_the_body_of_what_it_calls_also_inside_calls():
    bodies = {"c": spec()}
    bodies["b"] = with_calls(spec("c"), bodies)
    workflow = manifest.workflow(with_calls(spec("b", "c"), bodies))
    first, second = (step.uses.body for step in workflow.steps if step.uses)
    inner = manifest.workflow(first).steps[0].uses
    assert inner is not None
    assert inner.body == second


INNER = json.dumps(
    {
        "spec": {
            "params": [
                {"name": "n", "type": "integer"},
                {"name": "kind", "enum": ["x", "y"], "default": "x"},
                {"name": "days", "type": "list", "default": []},
            ],
            "outputs": {"next-one": "1"},
        }
    }
)


def problems(lines):
    around = Around(called={"inner": interface(INNER)})
    parsed = manifest.parse_file("w.yaml", (HEAD + lines).encode(), around=around)
    return [fault.problem for one in parsed.documents for fault in one.faults]


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ("{n: 1}", None),
        ("{n: '${{ 1 + 1 }}'}", None),
        ("{n: 1, days: ['${{ run.date }}']}", None),
        ("{n: one}", "'one' is not an integer"),
        ("{n: true}", "True is not an integer"),
        ("{n: 1, kind: z}", "'z' is not among the values of its enum"),
        ("{n: 1, m: '${{ run.id }}'}", "there is no param 'm'"),
        ("{}", "the call of 'inner' leaves the param 'n' without a value"),
    ],
)
def test_params_of_a_known_workflow_are_checked(params, problem):
    found = problems(f"  steps: [{{name: s, uses: {{workflow: inner, params: {params}}}}}]\n")
    assert found == ([] if problem is None else [problem])


@pytest.mark.parametrize(
    ("matrix", "text", "known"),
    [
        ("", "${{ steps.s.outputs.next_one }}", True),
        ("", "${{ steps.s.outputs.next }}", False),
        ("matrix: {i: [1]}, ", "${{ steps.s.outputs.next_one[0] }}", True),
        ("matrix: {i: [1]}, ", "${{ steps.s.outputs.next_one + 1 }}", False),
    ],
)
def test_outputs_of_a_known_workflow_are_known(matrix, text, known):
    step = f"{{name: s, {matrix}uses: {{workflow: inner, params: {{n: 1}}}}}}"
    found = problems(
        f"  steps:\n    - {step}\n    - {{name: t, script: x, env: {{A: '{text}'}}}}\n"
    )
    assert (not found) is known


def test_of_an_unknown_workflow_nothing_is_judged():
    use = "{name: s, uses: {workflow: other, params: {q: 1}}}"
    last = "{name: t, script: x, env: {A: '${{ steps.s.outputs.any }}'}}"
    assert problems(f"  steps: [{use}, {last}]\n") == []


def test_what_a_file_calls_is_known_also_where_it_has_faults():
    text = HEAD + "  prams: []\n  steps: [{name: s, uses: {workflow: b}}, {name: t, uses: 3}]\n"
    assert manifest.calls_written(text.encode()) == ("b",)
    assert manifest.calls_written(b"uses: [") == ()
