"""Two manifests with one name, in different files or in one."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from controller.model.source import Fault, ParsedDocument, ParsedFile

Place = tuple[str, ParsedDocument]


def duplicates(
    files: Mapping[str, ParsedFile], owners: Mapping[tuple[str, str], str] | None = None
) -> tuple[Fault, ...]:
    """Return a fault for each manifest that may not use its name, because another has it.

    Args:
        files: what each file of one source says, by its path.
        owners: (kind, name) -> the file that has held the name until now; it keeps it. Of a name
            without an owner, every file is at fault. Of several in the owner's file, all are.

    Returns:
        Faults sorted by file and line; both places are named in each.
    """
    by_name: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for path in sorted(files):
        for document in files[path].documents:
            if document.name:
                by_name[document.kind, document.name].append((path, document))
    found = [
        fault
        for key, places in by_name.items()
        if len(places) > 1
        for fault in _faults(key, places, (owners or {}).get(key))
    ]
    return tuple(sorted(found, key=lambda fault: (fault.file, fault.line)))


def _faults(key: tuple[str, str], places: list[Place], owner: str | None) -> Iterator[Fault]:
    held = _owned(places, owner)
    for path, document in places:
        if held is not None and document is held[1]:
            continue
        others = [place for place in places if place[1] is not document]
        yield Fault(
            file=path,
            line=document.line,
            column=1,
            pointer="/metadata/name",
            problem=f"{key[0]} {key[1]!r} is also declared in {_listed(others)}",
            remedy="rename one of them",
        )


def _owned(places: list[Place], owner: str | None) -> Place | None:
    """Return the manifest that keeps the name: the only one in the owner's file."""
    inside = [place for place in places if place[0] == owner]
    return inside[0] if len(inside) == 1 else None


def _listed(places: Iterable[Place]) -> str:
    return ", ".join(f"{path}:{document.line}" for path, document in places)
