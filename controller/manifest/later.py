"""What the manifests' contract names and this version does not do yet: one table.

A field moves out of here when the schema learns it.
"""

from controller.manifest.finding import Path

_STEP = frozenset({"matrix", "module", "uses", "services", "caches", "user", "alert"})
_FIELDS: dict[tuple[str, ...], frozenset[str]] = {
    ("spec",): frozenset({"concurrency", "queueTimeout", "suspendAfter", "expectEvery", "history"}),
    ("spec", "schedules", "*"): frozenset({"runPolicy"}),
    ("spec", "triggers", "*"): frozenset({"workflow", "webhook", "phases", "params"}),
    ("spec", "defaults"): frozenset({"services", "caches", "user"}),
    **{
        ("spec", section, "*"): _STEP
        for section in ("steps", "onSuccess", "onFailure", "onCancel", "finally")
    },
}


def unsupported(path: Path, key: str) -> tuple[str, str] | None:
    """Return problem and remedy when `key` of the mapping at `path` is to come; else None."""
    place = tuple("*" if isinstance(part, int) else part for part in path)
    if key not in _FIELDS.get(place, ()):
        return None
    return f"`{key}` is not supported by this version", "remove it for now"
