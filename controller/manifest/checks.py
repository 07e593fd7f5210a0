"""What a schema can't say, checked on the raw document; faulty parts are passed over."""

from collections.abc import Iterator
from typing import Any

from controller.manifest import names, needs, scopes, values
from controller.manifest.around import PLAIN, Around
from controller.manifest.finding import Finding
from controller.manifest.template import expressive


def check(
    document: dict[str, Any], *, expressions: bool = True, around: Around = PLAIN
) -> Iterator[Finding]:
    """Yield everything wrong with a Workflow beyond its schema.

    Args:
        document: the raw document.
        expressions: false when it is known to hold none.
        around: what it is read with; its agents' outputs and artifacts are known by it.
    """
    spec = document.get("spec")
    if not isinstance(spec, dict):
        return
    texts = list(expressive(spec)) if expressions else []
    yield from around.check(spec)
    open_steps = around.open_steps(spec)
    spec = around.completed(spec)
    yield from names.check(spec)
    yield from needs.check(spec, texts, open_steps)
    yield from values.check(spec)
    yield from scopes.check(spec, texts, open_steps)
