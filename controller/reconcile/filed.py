"""What is known of each manifest file of a source: who it declares, and who it may declare."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.manifest.between import links
from controller.model.source import Declaration, Fault, ParsedDocument, ParsedFile

WORKFLOW = "Workflow"
OTHERS = frozenset({"Agent", "Defaults"})


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is known of one manifest file: who it declares, and what is wrong with it."""

    documents: tuple[ParsedDocument, ...] = ()  # of workflows
    faults: tuple[Fault, ...] = ()  # of the file and of every document
    kept: frozenset[str] = frozenset()  # names it may still declare, where it can't be read
    doubtful: bool = False  # it, or the name of one of its documents, can't be read

    @property
    def names(self) -> frozenset[str]:
        return frozenset(one.name for one in self.documents if one.name) | self.kept

    def declares(self, name: str) -> bool:
        return any(one.name == name for one in self.documents)

    def line_of(self, name: str) -> int:
        return next((one.line for one in self.documents if one.name == name), 0)


def record_of(file: ParsedFile, names: frozenset[str]) -> FileRecord:
    """A file that can't be read, or a document whose name can't, has lost none of its workflows."""
    documents = tuple(one for one in file.documents if one.kind == WORKFLOW)
    doubtful = bool(file.faults) or any(map(is_nameless, file.documents))
    return FileRecord(documents, file.all_faults, names if doubtful else frozenset(), doubtful)


def is_nameless(document: ParsedDocument) -> bool:
    """Tell whether a faulty document could be any workflow."""
    known = document.kind in OTHERS or (document.kind == WORKFLOW and document.name)
    return bool(document.faults) and not known


def naming_others(
    record: FileRecord, last: Mapping[str, Declaration]
) -> tuple[ParsedDocument, ...]:
    """Return what names others in a file; a faulty text names whom its last valid one did."""
    valid = {one.name: one for one in record.documents if one.declaration is not None}
    kept = (stand_in(last[name], record) for name in record.names - {*valid} if name in last)
    return tuple(one for one in (*valid.values(), *kept) if links(one))


def stand_in(declaration: Declaration, record: FileRecord) -> ParsedDocument:
    """Return the document of a last valid text, where the newest can't be read."""
    return ParsedDocument(
        kind=WORKFLOW,
        name=declaration.name,
        document=declaration.document,
        line=record.line_of(declaration.name),
        declaration=declaration,
    )


def reclaim(
    claims: dict[str, tuple[str, ...]], path: str, before: FileRecord | None, now: FileRecord | None
) -> set[str]:
    """Note which names `path` declares now; return every name it declared or declares."""
    old = before.names if before else frozenset()
    new = now.names if now else frozenset()
    for name in old - new:
        left = tuple(one for one in claims.pop(name) if one != path)
        claims |= {name: left} if left else {}
    for name in new - old:
        claims[name] = tuple(sorted((*claims.get(name, ()), path)))
    return {*old, *new}


def sought(
    before: Mapping[str, tuple[str, ...]],
    vanished: Iterable[str],
    read: Iterable[str],
    files: Mapping[str, FileRecord],
) -> Mapping[str, tuple[str, ...]]:
    """Return the names that may have moved into a file that can't be read, with those files.

    Args:
        before: those of the snapshot before.
        vanished: the names that no file declares since this snapshot.
        read: the files that this snapshot had read.
        files: every file, as it is now.
    """
    doubtful = tuple(sorted(path for path in read if is_doubtful(path, files)))
    still = {
        name: tuple(path for path in paths if is_doubtful(path, files))
        for name, paths in before.items()
    }
    moved = {name: {*left, *doubtful} for name, left in still.items() if left != before[name]}
    found = {**still, **moved, **dict.fromkeys(vanished, doubtful)}
    return {name: tuple(sorted(paths)) for name, paths in found.items() if paths}


def is_doubtful(path: str, files: Mapping[str, FileRecord]) -> bool:
    return path in files and files[path].doubtful


def hidden(path: str, unreadable: Iterable[str]) -> bool:
    return any(path == one or path.startswith(one + "/") for one in unreadable)
