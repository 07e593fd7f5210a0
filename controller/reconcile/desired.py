"""What one source asks for, advanced snapshot by snapshot; one bad file never blocks the others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from controller.model.source import Declaration, Fault, ParsedDocument, ParsedFile, Snapshot


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is known of one manifest file: who it declares, and what is wrong with it."""

    documents: tuple[ParsedDocument, ...] = ()
    faults: tuple[Fault, ...] = ()
    kept: frozenset[str] = frozenset()  # names it declared before it stopped being readable

    @property
    def names(self) -> frozenset[str]:
        return frozenset(one.name for one in self.documents if one.name) | self.kept


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The desired state of one source. `changed` are the names that differ from the one before."""

    source: str
    prune: bool = True
    allow_empty: bool = False
    owners: Mapping[str, str] = field(default_factory=dict)  # name -> file, as the store has it
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    claims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # name -> files
    declarations: Mapping[str, Declaration] = field(default_factory=dict)
    invalid: Mapping[str, Fault] = field(default_factory=dict)  # name -> the first thing wrong
    path_faults: tuple[Fault, ...] = ()  # of the snapshot itself
    changed: frozenset[str] = frozenset()

    @classmethod
    def empty(
        cls,
        source: str,
        *,
        prune: bool = True,
        allow_empty: bool = False,
        owners: Mapping[str, str] | None = None,
    ) -> "Loaded":
        return cls(source=source, prune=prune, allow_empty=allow_empty, owners=owners or {})

    @cached_property
    def faults(self) -> tuple[Fault, ...]:
        """Every fault of the files, by path."""
        found = {
            fault: None for path in sorted(self.files) for fault in faults_of(self.files[path])
        }
        return tuple({**found, **dict.fromkeys(self.invalid.values())})

    @property
    def all_faults(self) -> tuple[Fault, ...]:
        return (*self.path_faults, *self.faults)


def faults_of(record: FileRecord) -> tuple[Fault, ...]:
    return (*record.faults, *(fault for one in record.documents for fault in one.faults))


def advance(loaded: Loaded, snapshot: Snapshot, parsed: Mapping[str, ParsedFile | None]) -> Loaded:
    """Return the desired state after a snapshot; `parsed` holds each manifest that changed.

    A path whose value is None is gone, unless the snapshot could not read what is above it.
    """
    files, claims = dict(loaded.files), dict(loaded.claims)
    touched: set[str] = set()
    for path, file in parsed.items():
        if file is None and hidden(path, snapshot.unreadable):
            continue
        before = files.pop(path, None)
        if file is not None:
            files[path] = record_of(file, before)
        touched |= reclaim(claims, path, before, files.get(path))
    if not files and loaded.declarations and not loaded.allow_empty:
        return replace(loaded, changed=frozenset(), path_faults=(emptied(loaded), *snapshot.faults))
    return settle(replace(loaded, files=files, claims=claims, path_faults=snapshot.faults), touched)


def reclaim(
    claims: dict[str, tuple[str, ...]], path: str, before: FileRecord | None, now: FileRecord | None
) -> set[str]:
    """Note which names `path` declares now; return every name it declared or declares."""
    old = before.names if before else frozenset()
    new = now.names if now else frozenset()
    for name in old - new:
        claims[name] = tuple(one for one in claims[name] if one != path)
    for name in new - old:
        claims[name] = tuple(sorted((*claims.get(name, ()), path)))
    return {*old, *new}


def hidden(path: str, unreadable: Iterable[str]) -> bool:
    return any(path == one or path.startswith(one + "/") for one in unreadable)


def record_of(file: ParsedFile, before: FileRecord | None) -> FileRecord:
    """A file that can't be parsed is never read as having lost its workflows."""
    kept = before.names if file.faults and before is not None else frozenset()
    documents = tuple(one for one in file.documents if one.kind == "Workflow")
    return FileRecord(documents=documents, faults=file.faults, kept=kept)


def emptied(loaded: Loaded) -> Fault:
    return Fault(
        file=loaded.source,
        problem=f"no manifest is left; {len(loaded.declarations)} loaded workflows stay",
        remedy="set allowEmpty: true if it is meant to be empty",
    )


def settle(loaded: Loaded, touched: Iterable[str]) -> Loaded:
    """Judge each touched name anew."""
    declarations, invalid = dict(loaded.declarations), dict(loaded.invalid)
    changed = set()
    for name in touched:
        before = (declarations.pop(name, None), invalid.pop(name, None))
        declaration, fault = judge(loaded, name, loaded.claims[name])
        if declaration is not None:
            declarations[name] = declaration
        if fault is not None:
            invalid[name] = fault
        if before != (declaration, fault):
            changed.add(name)
    claims = {name: paths for name, paths in loaded.claims.items() if paths}
    return replace(
        loaded,
        claims=claims,
        declarations=declarations,
        invalid=invalid,
        changed=frozenset(changed),
    )


def judge(
    loaded: Loaded, name: str, paths: tuple[str, ...]
) -> tuple[Declaration | None, Fault | None]:
    """Return a name's declaration, and what is wrong with its newest text."""
    last = loaded.declarations.get(name)
    if not paths:
        return (None if loaded.prune else last), None
    owner = last.file if last is not None else loaded.owners.get(name, "")
    if len(paths) > 1:
        return contested(loaded, name, paths, owner if owner in paths else "")
    return text_of(loaded, name, paths[0])


def contested(
    loaded: Loaded, name: str, paths: tuple[str, ...], owner: str
) -> tuple[Declaration | None, Fault | None]:
    """Two files declare one name: the owner stays; on first sight neither loads."""
    others = [path for path in paths if path != owner]
    fault = Fault(
        file=others[0],
        line=line_of(loaded.files[others[0]], name),
        column=1 if line_of(loaded.files[others[0]], name) else 0,
        pointer="/metadata/name",
        problem=f"{name!r} is declared in {' and in '.join(paths)}",
        remedy="rename one of them",
    )
    if not owner:
        return None, fault
    declaration, own_fault = text_of(loaded, name, owner)
    return declaration, own_fault or fault


def line_of(record: FileRecord, name: str) -> int:
    return next((one.line for one in record.documents if one.name == name), 0)


def text_of(loaded: Loaded, name: str, path: str) -> tuple[Declaration | None, Fault | None]:
    """Return what one file says of a name; a faulty text keeps the last valid one."""
    record, last = loaded.files[path], loaded.declarations.get(name)
    named = [one for one in record.documents if one.name == name]
    if len(named) > 1:
        return last, Fault(
            file=path,
            line=named[1].line,
            column=1,
            pointer="/metadata/name",
            problem=f"{name!r} is declared twice in this file",
            remedy="rename one of them",
        )
    if named and named[0].declaration is not None and not named[0].faults:
        return named[0].declaration, None
    faults = named[0].faults if named and named[0].faults else record.faults
    return last, faults[0] if faults else None
