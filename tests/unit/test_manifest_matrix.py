"""Matrices: what their combinations are, and what is refused."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.manifest.expression import ExpressionError
from controller.manifest.matrix import combinations
from controller.model.workflow import Matrix


def test_combinations_are_the_product_of_the_axes_by_name_then_by_place():
    found = combinations(Matrix(axes={"os": ["b", "a"], "arch": [1, 2]}), {})
    assert found == (
        {"arch": 1, "os": "b"},
        {"arch": 1, "os": "a"},
        {"arch": 2, "os": "b"},
        {"arch": 2, "os": "a"},
    )


def test_include_extends_what_it_does_not_contradict_as_github_documents_it():
    matrix = Matrix(
        axes={"animal": ["cat", "dog"], "fruit": ["apple", "pear"]},
        include=(
            {"color": "green"},
            {"color": "pink", "animal": "cat"},
            {"fruit": "apple", "shape": "circle"},
            {"fruit": "banana"},
            {"fruit": "banana", "animal": "cat"},
        ),
    )
    found = [{k: v for k, v in one.items() if v is not None} for one in combinations(matrix, {})]
    assert found == [
        {"animal": "cat", "fruit": "apple", "color": "pink", "shape": "circle"},
        {"animal": "cat", "fruit": "pear", "color": "pink"},
        {"animal": "dog", "fruit": "apple", "color": "green", "shape": "circle"},
        {"animal": "dog", "fruit": "pear", "color": "green"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]


def test_a_name_that_only_others_were_given_is_null():
    found = combinations(Matrix(axes={"a": [1]}, include=({"a": 2, "b": 3},)), {})
    assert found == ({"a": 1, "b": None}, {"a": 2, "b": 3})


def test_exclude_removes_every_combination_it_fits_before_include_adds():
    axes = {"os": ["linux", "mac"], "py": [10, 11]}
    found = combinations(
        Matrix(axes=axes, exclude=({"os": "mac"},), include=({"os": "mac", "py": 12},)), {}
    )
    assert found == (
        {"os": "linux", "py": 10},
        {"os": "linux", "py": 11},
        {"os": "mac", "py": 12},
    )


def test_true_is_not_one_when_excluding():
    assert combinations(Matrix(axes={"a": [True, 1]}, exclude=({"a": 1},)), {}) == ({"a": True},)


def test_include_alone_makes_one_combination_an_entry():
    assert combinations(Matrix(include=({"a": 1}, {"a": 2})), {}) == ({"a": 1}, {"a": 2})


def test_a_list_known_only_at_run_time_is_one_axis():
    scope = {"steps": {"each-row": {"outputs": {"rows": {"regions": ["eu", "us"]}}}}}
    matrix = Matrix(each="${{ steps.each_row.outputs.rows.regions }}", item="region")
    assert combinations(matrix, scope) == ({"region": "eu"}, {"region": "us"})


def test_expressions_stand_in_axes_their_items_include_and_exclude():
    scope = {"params": {"list": [1, 2, 3], "one": 2, "text": "x"}}
    matrix = Matrix(
        axes={"a": "${{ params.list }}", "b": ["${{ params.text }}y"]},
        exclude=({"a": "${{ params.one }}"},),
        include=({"a": 3, "c": "${{ params.one + 1 }}"},),
    )
    assert combinations(matrix, scope) == (
        {"a": 1, "b": "xy", "c": None},
        {"a": 3, "b": "xy", "c": 3},
    )


def test_no_items_are_no_combinations():
    assert combinations(Matrix(axes={"a": ["x"], "b": []}), {}) == ()


def test_an_axis_that_is_no_list_is_named():
    with pytest.raises(ExpressionError, match="'region' is a list, not eu"):
        combinations(Matrix(each="${{ params.r }}", item="region"), {"params": {"r": "eu"}})


@pytest.mark.parametrize(
    "matrix",
    [
        Matrix(axes={"a": list(range(33)), "b": list(range(32))}),
        Matrix(axes={name: list(range(1000)) for name in "abcdefgh"}),
        Matrix(include=tuple({"a": i} for i in range(1025))),
    ],
)
def test_over_1024_combinations_are_refused_by_figure(matrix):
    with pytest.raises(ExpressionError, match=r"more than 1,024"):
        combinations(matrix, {})


def test_1024_combinations_are_allowed():
    assert len(combinations(Matrix(axes={"a": list(range(32)), "b": list(range(32))}), {})) == 1024


VALUE = st.sampled_from([0, 1, 2, True, False, "x", "y", None])
ENTRY = st.dictionaries(st.sampled_from("abcz"), VALUE, min_size=1, max_size=3)
AXES = st.dictionaries(st.sampled_from("abc"), st.lists(VALUE, max_size=3), max_size=3)
MATRIX = st.builds(
    Matrix,
    axes=AXES,
    include=st.lists(ENTRY, max_size=3).map(tuple),
    exclude=st.lists(ENTRY, max_size=2).map(tuple),
)


def key(value):
    return (isinstance(value, bool), value)


def fits(entry, one):
    return all(name in one and key(one[name]) == key(value) for name, value in entry.items())


@given(MATRIX)
def test_axes_give_the_product_less_the_excluded_and_include_only_adds(matrix):
    names = sorted(matrix.axes)
    whole = [dict(zip(names, values, strict=True)) for values in product(*(matrix.axes[n] for n in names))] if names else []  # fmt: skip
    kept = [one for one in whole if not any(fits(entry, one) for entry in matrix.exclude)]
    found = combinations(matrix, {})
    assert [{name: one[name] for name in names} for one in found[: len(kept)]] == kept
    assert len(found) <= len(kept) + len(matrix.include)
    for entry in matrix.include:
        welcome = [one for one in kept if fits({n: v for n, v in entry.items() if n in one}, one)]
        assert welcome or any(fits(entry, one) for one in found[len(kept) :])


@given(MATRIX)
def test_every_combination_has_every_name_and_the_order_is_stable(matrix):
    found = combinations(matrix, {})
    assert len({frozenset(one) for one in found}) <= 1
    assert all(set(matrix.axes) <= set(one) for one in found)
    turned = Matrix(
        axes=dict(reversed(matrix.axes.items())), include=matrix.include, exclude=matrix.exclude
    )
    assert combinations(turned, {}) == found
