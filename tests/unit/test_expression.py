import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import manifest
from controller.errors import StalledError
from controller.manifest import expression, template
from controller.manifest.expression import ExpressionError, evaluate, references, render
from controller.model.run import Run, Trigger
from controller.model.workflow import Mount, Step

NOON = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
SCOPE = {
    "params": {"region": "eu", "n": 3, "rate": 0.5, "list": [1, "a", None], "on": True},
    "run": {"scheduledTime": NOON, "date": "2026-03-02", "fresh": False},
    "steps": {
        "each_region": {"phase": "Succeeded", "exitCode": None, "outputs": {"rows": {"a": [1, 2]}}},
        "gone": {"phase": "Skipped", "outputs": {}},
    },
    "workflow": {"name": "w", "labels": {"team": "data"}},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("${{ params.n }}", 3),
        ("  ${{ params.n }}", "  3"),
        ("${{ params.list }}", [1, "a", None]),
        ("x-${{ params.list }}-${{ params.region }}", 'x-[1, "a", null]-eu'),
        ("${{ params.on }}", True),
        ("is ${{ params.on }}", "is true"),
        ("${{ steps.each_region.exitCode }}", None),
        ("${{ steps.each_region.outputs.rows.a[1] + params.n }}", 5),
        ("${{ {'a': {'b': params.n}} }}", {"a": {"b": 3}}),
        ("${{ '}}' + params.region }}", "}}eu"),
        ("${{ params.list.map(x, x == null) }}", [False, False, True]),
        ("${{ run.scheduledTime }}", "2026-03-01T23:30:00Z"),
        ("${{ run.scheduledTime.getHours('Europe/Berlin') }}", 0),
        ("${{ duration('90m') }}", "5400s"),
        ("${{ workflow.labels.team }}", "data"),
        ("${{ steps.gone.phase == 'Succeeded' && steps.gone.outputs.rows > 1 }}", False),
        ("${{ params.rate * 2.0 }}", 1.0),
        ("$${{ params.n }}", "$3"),
    ],
)
def test_an_expression_gives_its_value(text, value):
    found = evaluate(text, SCOPE)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "${{ params.region",
        "${{ }}",
        "${{ params.nope }}",
        "${{ 1 / 0 }}",
        "${{ params.region + 1 }}",
        "${{ params.region.foo }}",
        "${{ b'bytes' }}",
        "${{ {1: 2} }}",
        "${{ 1.0 / 0.0 }}",
        "${{ type(1) }}",
        "${{ " + "1 + " * 2000 + "1 }}",
        "${{ '\ud800' }}",
        "${{ x( }}",
    ],
)
def test_an_expression_without_a_json_value_is_a_stalled_error(text):
    with pytest.raises(StalledError) as caught:
        evaluate(text, SCOPE)
    assert caught.value.reason == "ExpressionFailed"


def test_iterations_are_bounded():
    text = "${{ params.list.all(a, params.list.all(b, params.list.all(c, true))) }}"
    with pytest.raises(ExpressionError, match=r"[Bb]udget"):
        evaluate(text, {"params": {"list": list(range(100))}})


@given(st.text(alphabet="${}'\"abc.[]()+ 1", max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_evaluates_or_is_refused(text):
    for whole in (text, "${{" + text + "}}"):
        with contextlib.suppress(ExpressionError):
            evaluate(whole, SCOPE)


@given(st.text(max_size=50).filter(lambda text: template.OPENING not in text))
def test_text_without_an_expression_is_left_alone(text):
    assert evaluate(text, {}) == text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("plain params.x", set()),
        ("${{ steps.extract.outputs.rows.regions }}", {("steps", "extract", "outputs", "rows")}),
        ("${{ steps.a.phase }} ${{ params.x }}", {("steps", "a", "phase"), ("params", "x")}),
        ("${{ 'params.x' + \"run.id\" + r'steps.a.phase' }}", set()),
        ("${{ params . x.size() }}", {("params", "x")}),
        ("${{ foo(1).params.x }}", set()),
        ("${{ inputs.src.digest }}", {("inputs", "src", "digest")}),
        ("${{ workflow.labels['a'] }}", {("workflow", "labels")}),
        ("${{ steps.a.artifacts.b }}", {("steps", "a", "artifacts", "b")}),
        ("${{ params }}", {("params",)}),
        ("${{ 1.0e3.params }}", set()),
    ],
)
def test_references_are_the_names_that_an_expression_uses(text, names):
    assert references(text) == names


def test_render_evaluates_every_string_below_a_value():
    value = {"a": ["${{ params.n }}", {"b": "n=${{ params.n }}"}], "c": 1, "d": None}
    assert render(value, SCOPE) == {"a": [3, {"b": "n=3"}], "c": 1, "d": None}


def test_a_name_with_a_dash_in_the_scope_is_found_by_its_underscore():
    assert evaluate("${{ params.a_b }}", {"params": {"a-b": 1}}) == 1


def test_checking_gives_a_type_or_a_problem():
    types: dict[tuple[str, ...], str] = {("params", "n"): "integer", ("params", "s"): "string"}
    assert expression.check("params.n + 1", types).type == "integer"
    assert expression.check("params.s", types) == ("", "string")
    assert "overload" in expression.check("params.n + params.s", types).problem


def test_the_date_of_a_run_is_in_the_zone_of_its_schedule():
    run = Run(
        id="w-1", source="s", workflow="w", trigger=Trigger.SCHEDULE, identity="slot",
        scheduled_time=NOON, time_zone="Europe/Berlin", created_at=NOON,
    )  # fmt: skip
    scope = {"run": expression.run_scope(run)}
    assert evaluate("${{ run.date }}", scope) == "2026-03-02"
    assert evaluate("${{ run.trigger }} ${{ run.fresh }}", scope) == "Schedule false"


def test_a_step_is_evaluated_but_for_its_script():
    step = Step(
        name="s",
        image="i:${{ params.n }}",
        args=("${{ params.n }}", "x"),
        env={"A": "${{ params.n }}", "B": None},
        mounts=(Mount(path="in/${{ params.region }}", input="src"),),
    )
    found = manifest.evaluated(step, SCOPE)
    assert (found.image, found.args, found.env) == ("i:3", ("3", "x"), {"A": 3, "B": None})
    assert found.mounts[0].path == "in/eu"


def test_a_path_that_leaves_its_folder_after_evaluation_is_refused():
    step = Step(name="s", mounts=(Mount(path="a/${{ params.up }}", input="src"),))
    with pytest.raises(ExpressionError, match="leaves"):
        manifest.evaluated(step, {"params": {"up": "../../x"}})


def test_a_condition_is_true_or_false():
    assert manifest.condition("${{ params.n > 2 }}", SCOPE) is True
    with pytest.raises(ExpressionError, match="true or false"):
        manifest.condition("${{ params.n }}", SCOPE)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("${{ a }}", [((), "${{ a }}")]),
        (["x", {"b": "${{ a }}"}], [((1, "b"), "${{ a }}")]),
        (None, []),
        (5, []),
        ("plain", []),
    ],
)
def test_the_strings_with_expressions_are_found_in_any_value(value, found):
    assert list(template.expressive(value)) == found
