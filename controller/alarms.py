"""Timers: APScheduler wakes the loop; what is due is decided elsewhere."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger


class Alarms:
    """Calls plain functions on the event loop, at a moment or every so often."""

    def __init__(self) -> None:
        # Its default grace of one second drops late jobs; a late wake-up is still wanted.
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True}
        )
        self._next: dict[str, datetime] = {}
        self._intervals: dict[str, timedelta] = {}

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)

    def at(self, name: str, when: datetime | None, ring: Callable[[], None]) -> None:
        """Ring once at `when` (UTC); replaces the alarm of that name. None: no alarm."""
        if self._next.get(name) == when:
            return
        if when is None:
            self._next.pop(name, None)
            self._scheduler.remove_job(name)
            return
        self._next[name] = when
        self._scheduler.add_job(
            self._ring_once, DateTrigger(when), (name, ring), id=name, replace_existing=True
        )

    def every(self, name: str, interval: timedelta, ring: Callable[[], object]) -> None:
        """Ring each `interval`, first after one."""
        self._intervals[name] = interval
        self._scheduler.add_job(ring, trigger(interval), id=name, replace_existing=True)

    def set_right(self) -> None:
        """The wall clock was set: intervals count from now, or they'd wait for the old time."""
        for name, interval in self._intervals.items():
            self._scheduler.reschedule_job(name, trigger=trigger(interval))

    def _ring_once(self, name: str, ring: Callable[[], None]) -> None:
        self._next.pop(name, None)
        ring()


def trigger(interval: timedelta) -> IntervalTrigger:
    return IntervalTrigger(seconds=interval.total_seconds(), timezone=UTC)
