"""How much of each operation is done: `full` fits in about five minutes, `small` in one."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Scale:
    rounds: int  # of what is measured in turns with its floor
    chain: int  # steps
    changes: int
    commits: int
    monorepo: int  # workflows in one repository
    manifests: int  # of cold, warm, steady and idle
    rest: float  # seconds of rest that idle watches
    due: int  # workflows of jitter
    lives: int  # runs of record
    flight: int  # runs of crash
    many_due: int  # workflows of due
    days: int  # of soak
    ends: int  # of the daemon of week, in each of its five ways in turn


FULL = Scale(
    rounds=5,
    chain=100,
    changes=20,
    commits=10,
    monorepo=1_000,
    manifests=10_000,
    rest=20,
    due=1_000,
    lives=400,
    flight=100,
    many_due=10_000,
    days=7,
    ends=20,
)
SMALL = Scale(
    rounds=3,
    chain=30,
    changes=8,
    commits=4,
    monorepo=300,
    manifests=1_000,
    rest=6,
    due=100,
    lives=100,
    flight=30,
    many_due=1_000,
    days=2,
    ends=5,
)
TINY = Scale(
    rounds=1,
    chain=5,
    changes=1,
    commits=1,
    monorepo=3,
    manifests=10,
    rest=1,
    due=2,
    lives=5,
    flight=2,
    many_due=4,
    days=1,
    ends=1,
)
HOUR = replace(FULL, ends=450)  # of eight seconds each: of week only
SCALES = {"small": SMALL, "full": FULL, "tiny": TINY, "hour": HOUR}
