"""What one source asks for, advanced snapshot by snapshot; one bad file never blocks the others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from controller.manifest.between import between, links
from controller.model.source import Declaration, Fault, ParsedDocument, ParsedFile, Snapshot
from controller.model.workflow import Concurrency

WORKFLOW = "Workflow"
OTHERS = frozenset({"Agent", "Defaults"})


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is known of one manifest file: who it declares, and what is wrong with it."""

    documents: tuple[ParsedDocument, ...] = ()  # of workflows
    faults: tuple[Fault, ...] = ()  # of the file and of every document
    kept: frozenset[str] = frozenset()  # names it may still declare, where it can't be read

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
    faulty: Mapping[str, tuple[Fault, ...]] = field(default_factory=dict)  # file -> its faults
    groups: frozenset[str] | None = frozenset()  # of the configuration; None: nobody knows them
    limits: Mapping[str, int] = field(default_factory=dict)  # group of this source -> its limit
    linked: Mapping[str, tuple[ParsedDocument, ...]] = field(default_factory=dict)  # by file
    between: Mapping[str, Fault] = field(default_factory=dict)  # name -> what is wrong with others
    path_faults: tuple[Fault, ...] = ()  # of the snapshot itself
    unreadable: tuple[str, ...] = ()  # of the snapshot
    emptied: bool = False  # nothing is left, and that is not believed
    looked: bool = False  # a snapshot has been seen: the store's owners are no longer the newest
    changed: frozenset[str] = frozenset()

    @classmethod
    def empty(
        cls,
        source: str,
        *,
        prune: bool = True,
        allow_empty: bool = False,
        owners: Mapping[str, str] | None = None,
        groups: Iterable[str] | None = (),
    ) -> "Loaded":
        return cls(
            source=source,
            prune=prune,
            allow_empty=allow_empty,
            owners=owners or {},
            groups=None if groups is None else frozenset(groups),
        )

    @cached_property
    def faults(self) -> tuple[Fault, ...]:
        """Every fault of the files, by path; then those between files."""
        found = {fault: None for path in sorted(self.faulty) for fault in self.faulty[path]}
        return tuple({**found, **dict.fromkeys(self.invalid.values())})

    @cached_property
    def owned(self) -> Mapping[str, frozenset[str]]:
        """`owners` the other way round: file -> names."""
        found: dict[str, set[str]] = {}
        for name, file in self.owners.items():
            found.setdefault(file, set()).add(name)
        return {file: frozenset(names) for file, names in found.items()}

    @property
    def all_faults(self) -> tuple[Fault, ...]:
        return (*self.path_faults, *self.faults)

    def holds(self, name: str) -> bool:
        """Tell whether a name that isn't declared is nevertheless not known to be gone.

        So it is when its file can't be read, when nothing is left at all, or without `prune`.
        """
        if name in self.declarations or name in self.invalid:
            return True
        owner = self.owners.get(name)
        return owner is not None and (
            self.emptied or not self.prune or hidden(owner, self.unreadable)
        )


def remembered(loaded: Loaded, declarations: Iterable[Declaration]) -> Loaded:
    """Take up what was loaded before a restart, as if its files had just been read."""
    known = {one.name: one for one in declarations}
    kept: dict[str, set[str]] = {}
    for one in known.values():
        kept.setdefault(one.file, set()).add(one.name)
    return replace(
        loaded,
        files={path: FileRecord(kept=frozenset(names)) for path, names in kept.items()},
        claims={name: (one.file,) for name, one in known.items()},
        declarations=known,
        limits=limits_of(known.values(), loaded.limits),
    )


def advance(loaded: Loaded, snapshot: Snapshot, parsed: Mapping[str, ParsedFile | None]) -> Loaded:
    """Return the desired state after a snapshot; `parsed` holds each manifest that changed.

    A path whose value is None is gone, unless the snapshot still has it or could not read what is
    above it.
    """
    files, claims, faulty = dict(loaded.files), dict(loaded.claims), dict(loaded.faulty)
    linked = dict(loaded.linked)
    touched = set(loaded.declarations) if loaded.emptied else set()
    for path, file in parsed.items():
        if file is None and (path in snapshot.entries or hidden(path, snapshot.unreadable)):
            continue
        before = files.pop(path, None)
        faulty.pop(path, None)
        linked.pop(path, None)
        if file is not None:
            files[path] = record_of(file, names_before(loaded, path, before))
            if files[path].faults:
                faulty[path] = files[path].faults
            if naming := naming_others(files[path], loaded.declarations):
                linked[path] = naming
        touched |= reclaim(claims, path, before, files.get(path))
    gone = not files and not loaded.allow_empty and bool(loaded.declarations or loaded.owners)
    after = replace(
        loaded,
        files=files,
        claims=claims,
        faulty=faulty,
        linked=linked,
        path_faults=snapshot.faults,
        unreadable=snapshot.unreadable,
        emptied=gone,
        looked=True,
    )
    if gone:
        return nothing_left(after)
    same = all(ties(loaded.linked.get(path, ())) == ties(linked.get(path, ())) for path in parsed)
    if same and all((name in loaded.claims) == (name in claims) for name in touched):
        return settle(after, touched)
    return settle(*judged_between(after, touched))


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
        line=line_of(record, declaration.name),
        declaration=declaration,
    )


def ties(documents: Iterable[ParsedDocument]) -> list[object]:
    """Return all that the faults between files depend on."""
    declared = ((one.line, one.declaration) for one in documents if one.declaration is not None)
    return [
        (line, one.file, one.name, one.calls, one.upstreams, one.concurrency)
        for line, one in declared
    ]


def judged_between(loaded: Loaded, touched: set[str]) -> tuple[Loaded, set[str]]:
    """Judge anew who names whom: a file that changes may put those in other files at fault."""
    documents = (one for listed in loaded.linked.values() for one in listed)
    before, found = loaded.between, between(documents, known=loaded.claims, groups=loaded.groups)
    moved = {name for name in {**before, **found} if before.get(name) != found.get(name)}
    return replace(loaded, between=found), touched | moved


def nothing_left(loaded: Loaded) -> Loaded:
    """More likely a mistake than a wish: all that is loaded stays until something is there."""
    fault = Fault(
        file=loaded.source,
        problem=f"no manifest is left; {len(loaded.declarations)} loaded workflows stay",
        remedy="set allowEmpty: true if it is meant to be empty",
    )
    return replace(loaded, changed=frozenset(), path_faults=(fault, *loaded.path_faults))


def names_before(loaded: Loaded, path: str, before: FileRecord | None) -> frozenset[str]:
    """Return what a file has declared until now; the store knows it when we have just started."""
    if before is not None:
        return before.names
    if loaded.looked:
        return frozenset()
    return loaded.owned.get(path, frozenset())


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


def hidden(path: str, unreadable: Iterable[str]) -> bool:
    return any(path == one or path.startswith(one + "/") for one in unreadable)


def record_of(file: ParsedFile, names: frozenset[str]) -> FileRecord:
    """A file that can't be read, or a document whose name can't, has lost none of its workflows."""
    documents = tuple(one for one in file.documents if one.kind == WORKFLOW)
    doubtful = bool(file.faults) or any(map(is_nameless, file.documents))
    return FileRecord(documents, file.all_faults, names if doubtful else frozenset())


def is_nameless(document: ParsedDocument) -> bool:
    """Tell whether a faulty document could be any workflow."""
    known = document.kind in OTHERS or (document.kind == WORKFLOW and document.name)
    return bool(document.faults) and not known


def settle(loaded: Loaded, touched: Iterable[str]) -> Loaded:
    """Judge each touched name anew."""
    declarations, invalid = dict(loaded.declarations), dict(loaded.invalid)
    changed, regrouped = set(), False
    for name in touched:
        before = (declarations.pop(name, None), invalid.pop(name, None))
        declaration, fault = judge(loaded, name, loaded.claims.get(name, ()))
        regrouped |= group_of(before[0]) != group_of(declaration)
        if declaration is not None:
            declarations[name] = declaration
        if fault is not None:
            invalid[name] = fault
        if before != (declaration, fault):
            changed.add(name)
    return replace(
        loaded,
        declarations=declarations,
        invalid=invalid,
        limits=limits_of(declarations.values(), loaded.limits) if regrouped else loaded.limits,
        changed=frozenset(changed),
    )


def group_of(declaration: Declaration | None) -> Concurrency | None:
    return declaration.concurrency if declaration is not None else None


def limits_of(declarations: Iterable[Declaration], last: Mapping[str, int]) -> Mapping[str, int]:
    """Return each group's limit: of two that differ for now the smaller one, of none the last."""
    found: dict[str, int | None] = {}
    for one in declarations:
        if one.concurrency is not None:
            group, limit = one.concurrency.group, one.concurrency.limit
            told = [each for each in (limit, found.get(group)) if each is not None]
            found[group] = min(told, default=None)
    named = {group: last.get(group) if limit is None else limit for group, limit in found.items()}
    return {group: limit for group, limit in named.items() if limit is not None}


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
    """Several files declare one name: the owner stays; without one, what was loaded stays."""
    other = next(path for path in paths if path != owner)
    line = line_of(loaded.files[other], name)
    fault = Fault(
        file=other,
        line=line,
        column=1 if line else 0,
        pointer="/metadata/name",
        problem=f"{name!r} is declared in {' and in '.join(paths)}",
        remedy="rename one of them",
    )
    if not owner:
        return loaded.declarations.get(name), fault
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
        wrong = loaded.between.get(name)
        return (named[0].declaration, None) if wrong is None else (last, wrong)
    faults = named[0].faults if named and named[0].faults else record.faults
    return last, faults[0] if faults else None
