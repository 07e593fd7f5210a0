"""A matrix -> its combinations, by GitHub Actions' rules for include and exclude."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any, TypeAlias

from controller.manifest.expression import ExpressionError, as_text, evaluate, render
from controller.manifest.values import one_of
from controller.model.workflow import Json, Matrix

MAX_COMBINATIONS = 1024
Combination: TypeAlias = dict[str, Json]


def combinations(matrix: Matrix, scope: Mapping[str, Any]) -> tuple[Mapping[str, Json], ...]:
    """Return the value of every name for each combination, in a stable order.

    The product of the axes, ordered by axis name (the last one changes fastest) and by the place
    in each list; less those that an entry of `exclude` fits; then the entries of `include` in
    turn: each adds its values to the combinations whose axes it doesn't contradict, and is a
    combination of its own when there is none. Every combination has every name: what only others
    were given is null.

    Args:
        matrix: of one step, its expressions not yet evaluated.
        scope: values by name, as `expression.evaluate` takes them.

    Raises:
        ExpressionError: an expression gives no value, an axis is not a list (it is named), or
            there are over 1,024 combinations.
    """
    axes = _axes(matrix, scope)
    _bounded(prod(map(len, axes.values())) if axes else 0, axes)
    excluded = [render(entry, scope) for entry in matrix.exclude]
    kept = [one for one in _product(axes) if not any(_fits(entry, one) for entry in excluded)]
    found = _included(kept, [render(entry, scope) for entry in matrix.include])
    _bounded(len(found), axes)
    return _with_every_name(axes, found)


def _axes(matrix: Matrix, scope: Mapping[str, Any]) -> dict[str, list[Json]]:
    """By name, because the body that a run is pinned to keeps its keys sorted."""
    written = dict(matrix.axes)
    if matrix.each is not None:
        written[matrix.item] = matrix.each
    return {name: _values(name, written[name], scope) for name in sorted(written)}


def _values(name: str, written: Json, scope: Mapping[str, Any]) -> list[Json]:
    value = evaluate(written, scope) if isinstance(written, str) else render(written, scope)
    if not isinstance(value, list):
        problem = f"the axis {name!r} is a list, not {as_text(value)[:60]}"
        raise ExpressionError(problem, remedy="give it a list")
    return value


def _bounded(count: int, axes: Mapping[str, Sequence[Json]]) -> None:
    if count > MAX_COMBINATIONS:
        sizes = ", ".join(f"{name} has {len(values):,}" for name, values in axes.items())
        problem = f"{count:,} combinations are more than {MAX_COMBINATIONS:,}"
        remedy = f"give an axis fewer values ({sizes})" if sizes else "include fewer"
        raise ExpressionError(problem, remedy=remedy)


def _product(axes: Mapping[str, Sequence[Json]]) -> list[Combination]:
    """No axes are no combinations: `include` alone makes them."""
    if not axes:
        return []
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def _fits(entry: Mapping[str, Json], combination: Combination) -> bool:
    return all(
        name in combination and one_of(combination[name], (value,)) for name, value in entry.items()
    )


def _included(
    originals: list[Combination], entries: Sequence[Mapping[str, Json]]
) -> list[Combination]:
    """An entry may overwrite what an earlier one added, never what an axis gave."""
    extended = [dict(one) for one in originals]
    added: list[Combination] = []
    for entry in entries:
        welcome = [
            index
            for index, one in enumerate(originals)
            if _fits({name: value for name, value in entry.items() if name in one}, one)
        ]
        for index in welcome:
            extended[index].update(entry)
        if not welcome:
            added.append(dict(entry))
    return extended + added


def _with_every_name(axes: Iterable[str], found: Sequence[Combination]) -> tuple[Combination, ...]:
    names = dict.fromkeys((*axes, *(name for one in found for name in one)))
    return tuple({name: one.get(name) for name in names} for one in found)
