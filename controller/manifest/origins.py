"""Where the values of a rendered manifest come from, when its author did not write them there."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controller.manifest import raw
from controller.manifest.build import SECTIONS
from controller.manifest.finding import Path, pointer

Above = Sequence[tuple[str, Mapping[str, Any]]]
"""The Defaults above a file: the file each stands in and its spec, the nearest last."""
_MISSING = object()


def origins(
    written: Mapping[str, Any], rendered: Mapping[str, Any], above: Above
) -> dict[str, str]:
    """Return pointer -> origin for each value that stands in `rendered` and not in `written`.

    Args:
        written: the document as its author wrote it.
        rendered: the same, as it will be used.
        above: the Defaults of its folder and those above.
    """
    found: dict[str, str] = {}
    own = raw.mapping(written.get("spec"), "defaults")
    for path, _ in leaves(rendered["spec"], ()):
        if at(written["spec"], path) is _MISSING:
            found[pointer(("spec", *path))] = origin(path, own, above)
    return found


def origin(path: Path, own: Mapping[str, Any], above: Above) -> str:
    """Return what brought the value at a path of the spec."""
    match path:
        case (str(section), int(), "needs", *_) if section in SECTIONS:
            return "implied by an expression or a mount"
        case (str(section), int(), *inside) if section in SECTIONS:
            if at(own, tuple(inside)) is not _MISSING:
                return "spec.defaults"
            return nearest(("defaults", *inside), above)
        case ("schedules", int(), "timeZone"):
            return nearest(("timeZone",), above)
        case _:
            return nearest(path, above)


def nearest(path: Path, above: Above) -> str:
    files = [file for file, spec in above if at(spec, path) is not _MISSING]
    return f"Defaults of {files[-1]}" if files else "built in"


def leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield every value that is no mapping, with its path; lists of mappings are entered."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def at(value: Any, path: Path) -> Any:
    """Return what stands at a path, `_MISSING` where nothing does."""
    for part in path:
        if not has(value, part):
            return _MISSING
        value = value[part]
    return value


def has(value: Any, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)
