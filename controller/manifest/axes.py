"""A raw matrix: what is wrong with it, and the type of each of its names."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controller.manifest import raw
from controller.manifest.build import matrix as built
from controller.manifest.expression import ExpressionError
from controller.manifest.finding import Finding, Path
from controller.manifest.formats import SETTINGS_OF_A_MATRIX
from controller.manifest.matrix import combinations
from controller.manifest.names import nearest
from controller.manifest.template import expressive, written
from controller.model.workflow import Json

ITEM = "item"  # what `from` calls its items without `as`
_TYPES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "list",
    dict: "object",
}


def check(matrix: dict[str, Any], path: Path) -> Iterator[Finding]:
    """Yield what is wrong with the raw matrix at `path`, beyond its schema."""
    known = axes(matrix)
    if not known and not matrix.get("include"):
        remedy = "add an axis, as {size: [s, m]}, or `from`"
        yield Finding(path, "the matrix has no axis", remedy)
    yield from _item(matrix, path)
    for index, entry in raw.entries(matrix, "exclude"):
        for name in entry:
            if name not in known:
                where = (*path, "exclude", index, name)
                yield Finding(where, f"there is no axis {name!r}", nearest(name, known), True)  # noqa: FBT003 - a record
    try:
        _static(matrix)  # too many are refused by their figure
    except ExpressionError as error:
        yield Finding(path, error.problem, error.remedy)


def _item(matrix: dict[str, Any], path: Path) -> Iterator[Finding]:
    if "from" in matrix:
        item = matrix.get("as", ITEM)
        if isinstance(item, str) and item in matrix and item not in SETTINGS_OF_A_MATRIX:
            problem = f"the items of `from` are called {item!r} too"
            yield Finding((*path, item), problem, "name them by `as`, or rename the axis", True)  # noqa: FBT003 - a record
    elif "as" in matrix:
        yield Finding((*path, "as"), "`as` names the items of `from`", "add `from`, or remove it")


def axes(matrix: dict[str, Any]) -> list[str]:
    """Return the names of the axes, the item of `from` among them."""
    found = [name for name in matrix if name not in SETTINGS_OF_A_MATRIX]
    item = matrix.get("as", ITEM)
    return [*found, item] if "from" in matrix and isinstance(item, str) else found


def names(matrix: dict[str, Any]) -> list[str]:
    """Return every name that a combination has, as the manifest writes it."""
    included = (name for _, entry in raw.entries(matrix, "include") for name in entry)
    return list(dict.fromkeys((*axes(matrix), *included)))


def types(matrix: dict[str, Any]) -> dict[str, str]:
    """Return the type of each name, as expressions write it: "dyn" where values differ in it."""
    try:
        found = _static(matrix)
    except ExpressionError:
        found = None  # a fault of its own
    if found is not None:
        return {written(name): _common([one[name] for one in found]) for name in names(matrix)}
    return {written(name): _common(_listed(matrix, name)) for name in names(matrix)}


def _listed(matrix: dict[str, Any], name: str) -> Sequence[Json]:
    """Return all values that an axis can have; () when only a run knows them."""
    axis = matrix.get(name)
    if matrix.get("include") or not isinstance(axis, list) or any(expressive(axis)):
        return ()
    return axis


def _static(matrix: dict[str, Any]) -> tuple[Mapping[str, Json], ...] | None:
    """Return the combinations; None when an expression decides them, or their shape is wrong.

    Raises:
        ExpressionError: there are too many.
    """
    if "from" in matrix or any(expressive(matrix)) or not _sound(matrix):
        return None
    return combinations(built(matrix), {})


def _sound(matrix: dict[str, Any]) -> bool:
    entries = [matrix.get(key, []) for key in ("include", "exclude")]
    lists = [*(matrix[name] for name in axes(matrix)), *entries]
    return all(isinstance(one, list) for one in lists) and all(
        isinstance(entry, dict) for found in entries for entry in found
    )


def _common(values: Sequence[Json]) -> str:
    kinds = {_TYPES.get(type(value), "dyn") for value in values}
    return kinds.pop() if len(kinds) == 1 else "dyn"
