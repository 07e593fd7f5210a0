"""What a schema can't say, checked on the raw document; faulty parts are passed over."""

from collections.abc import Iterator
from typing import Any

from controller.manifest import names, needs, scopes, values
from controller.manifest.finding import Finding


def check(document: dict[str, Any], *, expressions: bool = True) -> Iterator[Finding]:
    """Yield everything wrong with a Workflow beyond its schema.

    Args:
        document: the raw document.
        expressions: false when it is known to hold none.
    """
    spec = document.get("spec")
    if not isinstance(spec, dict):
        return
    yield from names.check(spec)
    yield from needs.check(spec, expressions=expressions)
    yield from values.check(spec)
    if expressions:
        yield from scopes.check(spec)
