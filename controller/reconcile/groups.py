"""Concurrency groups of one source: which limit holds."""

from collections.abc import Iterable, Mapping

from controller.model.source import Declaration
from controller.model.workflow import Concurrency


def group_of(declaration: Declaration | None) -> Concurrency | None:
    return declaration.concurrency if declaration is not None else None


def limits_of(declarations: Iterable[Declaration], last: Mapping[str, int]) -> Mapping[str, int]:
    """Return each group's limit: of two that differ for now the smaller one, of none the last."""
    found: dict[str, int | None] = {}
    for one in declarations:
        if one.concurrency is not None:
            group, limit = one.concurrency.group, one.concurrency.limit
            told = [each for each in (limit, found.get(group)) if each is not None]
            found[group] = min(told, default=None)
    named = {group: last.get(group) if limit is None else limit for group, limit in found.items()}
    return {group: limit for group, limit in named.items() if limit is not None}
