"""Where a repository's LFS server is, and what lets us in: by the login that fetches its commits.

Over ssh the host says both, as `git-lfs-authenticate` prints them. `.lfsconfig` is never read.
"""

import asyncio
import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from controller.errors import StalledError, TransientError
from controller.model.settings import GitSource
from controller.source import remote
from controller.source.login import SCRATCH, basic, ssh_words, write_key
from controller.source.processes import clean, said, spawned

API = "/info/lfs"
SCP = re.compile(r"(?P<host>[^:/]+):(?P<path>.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Address:
    """An LFS server: the URL of its API, and headers that let us in."""

    url: str
    headers: Mapping[str, str] = field(repr=False)  # names in lower case

    @property
    def repository(self) -> str:
        """What stands before the API's own path: a login goes nowhere else."""
        return self.url.removesuffix(API)


async def address_of(settings: GitSource, value: str | None, folder: Path) -> Address:
    """Return the LFS server of a repository; `value` is its secret, if it has one.

    Raises:
        StalledError, TransientError: the host doesn't say, or doesn't let us in.
    """
    if remote.scheme(settings.url) == "ssh":
        return await told_by_host(settings, value, folder)
    headers = {} if value is None else {"authorization": f"Basic {basic(settings, value)}"}
    return Address(api_of(settings.url), headers)


def api_of(url: str) -> str:
    """Return where the API stands by the rules of Git LFS: `https://host/ops.git/info/lfs`."""
    base = url.rstrip("/")
    return (base if base.endswith(".git") else f"{base}.git") + API


async def told_by_host(settings: GitSource, value: str | None, folder: Path) -> Address:
    host, port, path = ssh_parts(settings.url)
    where = f"{remote.shown(settings.url)}: Git LFS"
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder.parent) as scratch:
        key = write_key(Path(scratch), value) if value is not None else None
        words = [*ssh_words(settings, key), *(("-p", port) if port else ()), "--", host]
        command = f"git-lfs-authenticate {shlex.quote(path)} download"
        output = await asked([*words, command], settings.timeout.total_seconds(), where)
    try:
        told = json.loads(output)
    except ValueError:
        told = None
    fallback = f"https://{host.rpartition('@')[2]}/{path.lstrip('/')}"
    return address_told(told, api_of(fallback), where)


async def asked(words: list[str], seconds: float, where: str) -> bytes:
    path = shutil.which(words[0])
    if path is None:
        problem, remedy = f"{words[0]} is not installed", "install OpenSSH's client"
        raise StalledError(problem, reason="ProgramMissing", where=where, remedy=remedy)
    try:
        async with (
            asyncio.timeout(seconds),
            spawned((path, *words[1:]), env=clean(None)) as process,
        ):
            output, errors = await said(process, None)
    except TimeoutError:
        problem = f"git-lfs-authenticate took over {seconds:g} s"
        raise TransientError(problem, reason="FetchTimeout", where=where) from None
    if process.returncode:
        raise refusal(errors.decode("utf-8", "replace"), where)
    return output


def refusal(text: str, where: str) -> StalledError | TransientError:
    """Return what ssh's words mean, or that the host has no LFS."""
    meant = remote.meaning(text, where)
    if "git-lfs-authenticate" not in text:
        return meant
    return StalledError(
        meant.problem,
        reason="LfsUnavailable",
        where=where,
        remedy="use a host that has git-lfs-authenticate, or fetch by https",
    )


def address_told(told: Any, fallback: str, where: str) -> Address:
    """Return what a host says of its LFS server."""
    if not isinstance(told, dict):
        problem, remedy = "git-lfs-authenticate prints no JSON", "fetch by https"
        raise StalledError(problem, reason="LfsUnavailable", where=where, remedy=remedy)
    url = told.get("href") or fallback
    headers = told.get("header") or {}
    good = isinstance(url, str) and isinstance(headers, dict)
    problem, _ = remote.url_problem(url) if good else ("is no URL", "")
    if problem or urlsplit(url).scheme not in {"https", "http"}:
        problem = "git-lfs-authenticate names an address that isn't fetched from"
        remedy = "have the host give an https:// address"
        raise StalledError(problem, reason="LfsUnavailable", where=where, remedy=remedy)
    sent = {name.lower(): text for name, text in headers.items() if isinstance(text, str)}
    return Address(url.rstrip("/"), sent)


def ssh_parts(url: str) -> tuple[str, str, str]:
    """Return user@host, the port or "", and the path as git names it to the host."""
    if "://" not in url:
        found = SCP.match(url)
        assert found is not None  # noqa: S101 - `remote.check` took it
        return found["host"], "", found["path"]
    parts = urlsplit(url)
    host = f"{parts.username}@{parts.hostname}" if parts.username else parts.hostname or ""
    path = unquote(parts.path)
    return host, str(parts.port or ""), path[1:] if path.startswith("/~") else path
