"""Fields that are read, checked and kept, and that this version does not act on yet: one table.

A field moves out of here when the planner learns it. Until then everybody is told.
"""

from collections.abc import Callable, Mapping

from controller.model.source import Declaration
from controller.model.workflow import History

_FIELDS: Mapping[str, Callable[[Declaration], object]] = {
    "history": lambda one: one.history != History(),
}


def not_acted_on(declaration: Declaration) -> tuple[str, ...]:
    """Return the fields that a workflow uses in vain for now."""
    return tuple(name for name, used in _FIELDS.items() if used(declaration))
