"""Where the database of a state directory lies."""

from pathlib import Path

from controller.errors import UsageError
from controller.store.connection import DATABASE

_SQLITE = "sqlite:///"


def database_path(state_dir: Path, url: str = "") -> Path:
    """Return the database's file; `url` is `store.url` of the configuration, "" the default.

    Raises:
        UsageError: the URL names another database than SQLite, or no file.
    """
    if not url:
        return state_dir / DATABASE
    if not url.startswith(_SQLITE) or url == _SQLITE:
        scheme = url.partition(":")[0]  # never more of it: it may hold a password
        raise UsageError(
            f"a {scheme} database is not supported yet",
            where="store.url",
            remedy="leave it out, or write sqlite:///PATH",
        )
    return state_dir / url.removeprefix(_SQLITE).replace("{stateDir}", str(state_dir))
