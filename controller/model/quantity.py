"""Durations (`1h30m`) and sizes (`512Mi`) as manifests write them."""

import re
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?:\d+(?:ms|s|m|h|d))+\Z", re.ASCII)
_PART = re.compile(r"(\d+)(ms|s|m|h|d)", re.ASCII)
_SIZES = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_SIZE = re.compile(r"(\d+)(Ki|Mi|Gi|Ti)?\Z", re.ASCII)
_LONGEST = timedelta(days=3660)


def parse_duration(text: str) -> timedelta:
    """Return the duration that `text` names; units ms, s, m, h, d in that falling order.

    Raises:
        ValueError: `text` is no duration, names a unit twice, or is over ten years.
    """
    if not _DURATION.match(text):
        msg = f"{text!r} is not a duration; write 90s, 10m, 1h30m or 7d"
        raise ValueError(msg)
    parts = _PART.findall(text)
    order = [list(_UNITS).index(unit) for _, unit in parts]
    if order != sorted(set(order), reverse=True):
        msg = f"{text!r} repeats or misorders a unit; write larger units first, each once"
        raise ValueError(msg)
    seconds = sum(int(number[:12]) * _UNITS[unit] for number, unit in parts)
    if seconds > _LONGEST.total_seconds():
        msg = f"{text!r} is over ten years"
        raise ValueError(msg)
    return timedelta(seconds=seconds)


def format_duration(value: timedelta) -> str:
    """Return the shortest text that `parse_duration` reads back as `value` (to the millisecond)."""
    left = round(value / timedelta(milliseconds=1))
    if left == 0:
        return "0s"
    text = ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text


def parse_size(text: str) -> int:
    """Return the bytes that `text` names: `512Mi`, `64Ki`, `10Gi`, or plain bytes.

    Raises:
        ValueError: `text` is no size.
    """
    match = _SIZE.match(text)
    if not match or len(match[1]) > 15:  # noqa: PLR2004 - beyond any disk
        msg = f"{text!r} is not a size; write 512Mi or 10Gi"
        raise ValueError(msg)
    return int(match[1]) * _SIZES[match[2] or ""]
