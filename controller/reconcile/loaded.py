"""The desired state of one source, whole: what `desired` advances."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from controller.model.source import Declaration, Fault, ParsedDocument
from controller.reconcile.filed import FileRecord, hidden
from controller.reconcile.groups import limits_of


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The desired state of one source. `changed` are the names that differ from the one before."""

    source: str
    prune: bool = True
    allow_empty: bool = False
    owners: Mapping[str, str] = field(default_factory=dict)  # name -> file, as the store has it
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    claims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # name -> files
    sought: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # no claim: see `sought`
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

    def is_orphaned(self, name: str) -> bool:
        """Tell whether a workflow goes on although no manifest is there for it: see `prune`."""
        if self.prune or name not in self.declarations:
            return False
        return name not in self.claims and name not in self.sought

    @property
    def orphans(self) -> tuple[str, ...]:
        """The names of such workflows."""
        return () if self.prune else tuple(sorted(filter(self.is_orphaned, self.declarations)))

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
