"""What a schema can't say, checked on the raw document; faulty parts are passed over."""

from collections.abc import Iterator
from typing import Any

from controller.manifest import names, needs, values
from controller.manifest.finding import Finding


def check(document: dict[str, Any]) -> Iterator[Finding]:
    """Yield everything wrong with a Workflow beyond its schema."""
    spec = document.get("spec")
    if not isinstance(spec, dict):
        return
    yield from names.check(spec)
    yield from needs.check(spec)
    yield from values.check(spec)
