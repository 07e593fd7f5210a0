"""What one source asks for, advanced snapshot by snapshot; one bad file never blocks the others."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from controller.manifest.between import between
from controller.model.source import Declaration, Fault, ParsedDocument, ParsedFile, Snapshot
from controller.reconcile.filed import (
    FileRecord,
    hidden,
    naming_others,
    reclaim,
    record_of,
    sought,
    stand_in,
)
from controller.reconcile.groups import group_of, limits_of
from controller.reconcile.loaded import Loaded, remembered

__all__ = ["Loaded", "advance", "remembered"]


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
    vanished = {*missing(loaded, touched, snapshot)} - claims.keys()
    after = replace(
        loaded,
        files=files,
        claims=claims,
        sought=sought(unclaimed(loaded, claims), vanished, parsed, files),
        faulty=faulty,
        linked=linked,
        path_faults=snapshot.faults,
        unreadable=snapshot.unreadable,
    )
    after = replace(after, emptied=is_emptied(after))
    if after.emptied:
        return replace(nothing_left(after, snapshot), looked=True)
    touched |= {*vanished, *loaded.sought, *after.sought}
    if is_tied_anew(loaded, after, touched, parsed):
        after, touched = judged_between(after, touched)
    settled = settle(after, touched)
    others = {one for one in touched if loaded.is_orphaned(one) != settled.is_orphaned(one)}
    return replace(
        settled,
        path_faults=(*no_folder(settled, snapshot), *snapshot.faults),
        changed=settled.changed | others,
        looked=True,
    )


def missing(loaded: Loaded, touched: Iterable[str], snapshot: Snapshot) -> Iterable[str]:
    """Return the names that may be gone: claimed before, or the store's at the start."""
    before = loaded.declarations if loaded.emptied else loaded.claims
    claimed = [name for name in touched if name in before]
    if loaded.looked:
        return claimed
    owners = loaded.owners.items()
    return (*claimed, *(name for name, file in owners if not hidden(file, snapshot.unreadable)))


def unclaimed(
    loaded: Loaded, claims: Mapping[str, tuple[str, ...]]
) -> Mapping[str, tuple[str, ...]]:
    return {name: paths for name, paths in loaded.sought.items() if name not in claims}


def is_emptied(loaded: Loaded) -> bool:
    """Tell whether a snapshot without any workflow would retire all: nobody said it shall."""
    if loaded.claims or loaded.sought or loaded.allow_empty or not loaded.prune:
        return False
    return bool(loaded.declarations or loaded.owners)


def is_tied_anew(
    before: Loaded, after: Loaded, touched: Iterable[str], read: Iterable[str]
) -> bool:
    """Tell whether faults between files may be others by now."""
    return any(
        ties(before.linked.get(path, ())) != ties(after.linked.get(path, ())) for path in read
    ) or any((name in before.claims) != (name in after.claims) for name in touched)


def ties(documents: Iterable[ParsedDocument]) -> list[object]:
    """Return all that the faults between files depend on."""
    declared = ((one.line, one.declaration) for one in documents if one.declaration is not None)
    return [
        (line, one.file, one.name, one.calls, one.upstreams, one.concurrency)
        for line, one in declared
    ]


def judged_between(loaded: Loaded, touched: set[str]) -> tuple[Loaded, set[str]]:
    """Judge anew who names whom: a file that changes may put those in other files at fault."""
    kept = () if loaded.prune else loaded.declarations
    known = {*loaded.claims, *loaded.sought, *kept}
    before = loaded.between
    found = between(in_force(loaded), known=known, groups=loaded.groups)
    moved = {name for name in {**before, **found} if before.get(name) != found.get(name)}
    return replace(loaded, between=found), touched | moved


def in_force(loaded: Loaded) -> Iterator[ParsedDocument]:
    """Yield what names others; of a contested name what is loaded, for neither text is taken."""
    contested = {name for name, paths in loaded.claims.items() if len(paths) > 1}
    listed = (one for listed in loaded.linked.values() for one in listed)
    yield from (one for one in listed if one.name not in contested)
    for name in contested & loaded.declarations.keys():
        last = loaded.declarations[name]
        yield stand_in(last, loaded.files.get(last.file, FileRecord()))


def nothing_left(loaded: Loaded, snapshot: Snapshot) -> Loaded:
    """More likely a mistake than a wish: all that is loaded stays until something is there."""
    below = f" below {snapshot.manifests}" if snapshot.manifests else ""
    fault = Fault(
        file=loaded.source,
        problem=f"no workflow is left{below}; {len(loaded.declarations)} loaded workflows stay",
        remedy="set allowEmpty: true if it is meant to be empty",
    )
    return replace(loaded, changed=frozenset(), path_faults=(fault, *loaded.path_faults))


def no_folder(loaded: Loaded, snapshot: Snapshot) -> tuple[Fault, ...]:
    """A folder of manifests that isn't there is a slip of the pen, unless it may be empty."""
    folder = snapshot.manifests
    if loaded.files or loaded.allow_empty or not folder:
        return ()
    if any(path.startswith(folder + "/") for path in snapshot.entries):
        return ()
    remedy = "correct `path`, or set allowEmpty: true if it may come later"
    return (Fault(file=loaded.source, problem=f"there is no folder {folder}", remedy=remedy),)


def names_before(loaded: Loaded, path: str, before: FileRecord | None) -> frozenset[str]:
    """Return what a file has declared until now; the store knows it when we have just started."""
    if before is not None:
        return before.names
    if loaded.looked:
        return frozenset()
    return loaded.owned.get(path, frozenset())


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


def judge(
    loaded: Loaded, name: str, paths: tuple[str, ...]
) -> tuple[Declaration | None, Fault | None]:
    """Return a name's declaration, and what is wrong with its newest text."""
    last = loaded.declarations.get(name)
    paths = claimants(loaded, name, paths)
    if len(paths) > 1:
        return last_of(loaded, name, paths), contested(loaded, name, paths)
    if paths:
        return text_of(loaded, name, paths[0])
    if name in loaded.sought:
        return last, maybe_moved(loaded, name, loaded.sought[name][0])
    return (None if loaded.prune else last), None


def claimants(loaded: Loaded, name: str, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the files that a name may be of: one that can't be read only has what it had last."""
    last = loaded.declarations.get(name)
    owner = last.file if last is not None else ""
    found = [path for path in paths if path == owner or loaded.files[path].declares(name)]
    return tuple(found) or paths


def last_of(loaded: Loaded, name: str, paths: tuple[str, ...]) -> Declaration | None:
    """Return what is loaded of a name; at the start the owner's file, unless it was recalled."""
    owner = loaded.owners.get(name, "")
    if name in loaded.declarations or loaded.looked or owner not in paths:
        return loaded.declarations.get(name)
    return text_of(loaded, name, owner)[0]


def maybe_moved(loaded: Loaded, name: str, path: str) -> Fault:
    """A file that can't be read may hold what left another one with the same snapshot."""
    why = loaded.files[path].faults[0]
    return replace(why, problem=f"{name!r} may be in here, and this can't be read: {why.problem}")


def contested(loaded: Loaded, name: str, paths: tuple[str, ...]) -> Fault:
    """Return why none of the files that claim one name has it: what was loaded stays."""
    unread = [path for path in paths if not loaded.files[path].declares(name)]
    if unread:
        return loaded.files[unread[0]].faults[0]
    last = loaded.declarations.get(name)
    owner = last.file if last is not None else loaded.owners.get(name, "")
    other = next(path for path in paths if path != owner)
    return Fault(
        file=other,
        line=loaded.files[other].line_of(name),
        column=1,
        pointer="/metadata/name",
        problem=f"{name!r} is declared in {' and in '.join(paths)}",
        remedy="rename one of them, or remove it",
    )


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
