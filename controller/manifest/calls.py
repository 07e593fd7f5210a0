"""Workflows run as steps: the bodies of those that are called, pinned into their caller's."""

import json
from collections.abc import Mapping

from controller import digest
from controller.errors import StalledError
from controller.manifest.build import SECTIONS

DEEPEST = 10  # calls inside calls


def calls_in(body: str) -> tuple[str, ...]:
    """Return the names of the workflows that a body's steps run, sorted."""
    if '"uses"' not in body:
        return ()
    spec = json.loads(body)["spec"]
    steps = (step for section in SECTIONS for step in spec.get(section, ()))
    return tuple(sorted({step["uses"]["workflow"] for step in steps if "uses" in step}))


def with_calls(body: str, called: Mapping[str, str]) -> str:
    """Return the body with those of the workflows it calls, by name, beside its spec."""
    value = json.loads(body)
    value["calls"] = {name: json.loads(one) for name, one in called.items()}
    return digest.canonical(value)


def refuse_circle(chain: tuple[str, ...]) -> None:
    """Raise StalledError CallsTooDeep when workflows call each other for ever, or too deep."""
    circle = chain[-1] in chain[:-1]
    if circle or len(chain) > DEEPEST:
        problem = "workflows run each other" if circle else f"more than {DEEPEST} calls deep"
        raise StalledError(
            f"{problem}: {' -> '.join(chain)}",
            where=chain[0],
            reason="CallsTooDeep",
            remedy="remove one of these `uses`",
        )


def refuse_other_source(name: str, caller: str) -> None:
    """Raise StalledError CallUnknown for `source/name`: only the own source can be reached."""
    if "/" in name:
        raise StalledError(
            f"the workflow {name!r} is of another source: this version runs those of its own only",
            where=caller,
            reason="CallUnknown",
            remedy="commit it to this source",
        )
