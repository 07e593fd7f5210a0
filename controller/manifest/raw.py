"""Reading raw values that may be faulty: what has the wrong shape is passed over."""

from collections.abc import Iterator, Sequence
from typing import Any

from controller.manifest.build import SECTIONS
from controller.manifest.finding import Path


def mapping(value: Any, key: str) -> dict[str, Any]:
    """Return the mapping under `key`, {} when it is something else."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def entries(value: Any, key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield index and value of every mapping in the list under `key`."""
    found = value.get(key) if isinstance(value, dict) else None
    if isinstance(found, list):
        for index, item in enumerate(found):
            if isinstance(item, dict):
                yield index, item


def texts(value: Any, key: str) -> Iterator[tuple[int, str]]:
    """Yield index and value of every text in the list under `key`."""
    found = value.get(key) if isinstance(value, dict) else None
    if isinstance(found, list):
        for index, item in enumerate(found):
            if isinstance(item, str):
                yield index, item


def named(value: Any, key: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield index, name and value of every mapping with a name in the list under `key`."""
    for index, item in entries(value, key):
        name = item.get("name")
        if isinstance(name, str):
            yield index, name, item


def steps(spec: Any) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield section, index and value of every step, hook and finally step."""
    for section in SECTIONS:
        if section in spec:
            for index, step in entries(spec, section):
                yield section, index, step


Steps = Sequence[tuple[str, int, dict[str, Any]]]
"""What `steps` yields, kept: every check looks at it."""


def step_path(section: str, index: int) -> Path:
    return ("spec", section, index)
