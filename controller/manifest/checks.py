"""What a schema can't say, checked on the raw document; faulty parts are passed over."""

from collections.abc import Iterator
from typing import Any

from controller.manifest import calls, names, needs, raw, scopes, values, works
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
    steps = list(raw.steps(spec))
    yield from around.check(steps)
    open_steps = around.open_steps(steps)
    if around.agents:
        spec = around.completed(spec)
        steps = list(raw.steps(spec))
    name = raw.mapping(document, "metadata").get("name", "")
    yield from names.check(spec, steps)
    yield from needs.check(spec, steps, texts, open_steps)
    yield from values.check(spec, steps, name)
    yield from works.check(spec, steps, name)
    if around.called:
        yield from calls.check(steps, around.called)
    if texts:
        outputs = {called: one.outputs for called, one in around.called.items()}
        yield from scopes.check(spec, steps, texts, open_steps, outputs)
