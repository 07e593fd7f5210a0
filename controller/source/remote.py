"""What a Git URL is: which kinds are taken, how we log in, what its errors mean."""

import base64
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from controller.errors import StalledError, TransientError, UsageError
from controller.model.settings import GitSource

SCP = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^-].*\Z")
NAME = re.compile(r"[A-Za-z0-9_][^\x00-\x20~^:?*\[\\]*\Z")
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
Secret = Callable[[str], Awaitable[str]]

# What git says -> (reason, whether a person must act).
SAYINGS: tuple[tuple[str, str, bool], ...] = (
    ("couldn't find remote ref", "RefNotFound", True),
    ("not our ref", "RefNotFound", True),
    ("Needed a single revision", "RefNotFound", True),
    ("Authentication failed", "AuthFailed", True),
    ("could not read Username", "AuthFailed", True),
    ("could not read Password", "AuthFailed", True),
    ("Permission denied (", "AuthFailed", True),
    ("The requested URL returned error: 401", "AuthFailed", True),
    ("The requested URL returned error: 403", "AuthFailed", True),
    ("Host key verification failed", "HostKeyUnknown", True),
    ("does not appear to be a git repository", "RepositoryNotFound", True),
    ("Repository not found", "RepositoryNotFound", True),
    ("The requested URL returned error: 404", "RepositoryNotFound", True),
    ("fsck error", "RepositoryDamaged", True),
    ("No space left on device", "DiskFull", False),
)
REMEDIES = {
    "RefNotFound": "push it, or correct `ref`",
    "AuthFailed": "check `auth` and its secret",
    "HostKeyUnknown": "add the host's key to the file `knownHosts`",
    "RepositoryNotFound": "correct `url`",
}


def check_url(url: str) -> None:
    """Refuse what we don't fetch from.

    Raises:
        UsageError: says which URLs are taken.
    """
    parts = urlsplit(url)
    remedy = "use https://, ssh://, user@host:path or file://"
    if url.startswith("-") or (not parts.scheme and not SCP.match(url)):
        raise UsageError("is not a URL of a Git repository", where=url, remedy=remedy)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise UsageError("sends everything in the clear", where=url, remedy="use https://")
    if parts.scheme and parts.scheme not in {"https", "http", "ssh", "file"}:
        raise UsageError(f"{parts.scheme}: is not fetched from", where=url, remedy=remedy)


def check_ref(name: str) -> str:
    """Return a branch's or tag's name; refuse what git could take for something else."""
    if not NAME.match(name) or ".." in name or name.endswith((".lock", "/", ".")):
        raise UsageError(f"{name!r} is not a ref's name", remedy="write it as git shows it")
    return name


def shown(url: str) -> str:
    """Return the URL without credentials."""
    parts = urlsplit(url)
    if not parts.scheme or parts.hostname is None:
        return url
    host = parts.hostname + (f":{parts.port}" if parts.port else "")
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def local_folder(url: str) -> Path | None:
    """Return the folder of a file:// URL."""
    parts = urlsplit(url)
    return Path(parts.path) if parts.scheme == "file" else None


async def login(settings: GitSource, secret: Secret | None, folder: Path) -> Mapping[str, str]:
    """Return the environment that logs git in; secrets never stand in an argument."""
    env = {"https_proxy": settings.proxy, "http_proxy": settings.proxy} if settings.proxy else {}
    auth = settings.auth
    if auth is None:
        return {**env, **ssh(settings, None)}
    if secret is None:
        raise StalledError("no secrets are configured", reason="SecretUnknown")
    value = await secret(auth.secret)
    if auth.type == "ssh":
        return {**env, **ssh(settings, write_key(folder, value))}
    user = auth.username or ("x-access-token" if auth.type == "token" else "git")
    basic = base64.b64encode(f"{user}:{value}".encode()).decode()
    return {
        **env,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{shown(settings.url)}.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
    }


def write_key(folder: Path, value: str) -> Path:
    path = folder / "identity"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(value.rstrip("\n") + "\n")
    return path


def ssh(settings: GitSource, key: Path | None) -> Mapping[str, str]:
    parts = urlsplit(settings.url)
    if parts.scheme != "ssh" and parts.scheme:
        return {}
    if settings.known_hosts is None:
        raise StalledError(
            "ssh needs the keys of its hosts",
            reason="HostKeyUnknown",
            where=shown(settings.url),
            remedy="name a file by `knownHosts`",
        )
    options = [
        *("ssh", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes"),
        f"-oUserKnownHostsFile={quoted(settings.known_hosts)}",
        "-oIdentitiesOnly=yes",
        *(("-i", quoted(str(key))) if key else ()),
    ]
    return {"GIT_SSH_COMMAND": " ".join(options), "GIT_SSH_VARIANT": "ssh"}


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def meaning(text: str, where: str) -> StalledError | TransientError:
    """Return what git's words mean: a person must act, or time may heal."""
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "git failed")
    problem = last.removeprefix("fatal: ").removeprefix("error: ")
    for saying, reason, stalled in SAYINGS:
        if saying in text:
            kind = StalledError if stalled else TransientError
            said = next(line for line in text.splitlines() if saying in line)
            return kind(
                said.removeprefix("fatal: ").removeprefix("error: "),
                reason=reason,
                where=where,
                remedy=REMEDIES.get(reason, ""),
            )
    return TransientError(problem, reason="FetchFailed", where=where)
