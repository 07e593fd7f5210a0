"""What a Git URL is: which kinds are taken, and what the errors of its remote mean."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from controller.errors import StalledError, TransientError, UsageError
from controller.model.semver import parse_range
from controller.model.settings import GitSource
from controller.source.processes import GitError

SCP = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^-].*\Z")
NAME = re.compile(r"(?![-/.])[^\x00-\x20\x7f~^:?*\[\\]+\Z")
ID = re.compile(r"[0-9a-f]{40}\Z")
KINDS = "use https://, ssh://, user@host:path, file:// or an absolute path"
MOMENT = re.compile(r" after \d+ ms")  # the same failure reads the same
DELETE = 127  # the control character
PROXIES = {"http", "https", "socks4", "socks4a", "socks5", "socks5h"}
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
Secret = Callable[[str], Awaitable[str]]

# What git says -> (reason, whether a person must act).
SAYINGS: tuple[tuple[str, str, bool], ...] = (
    ("couldn't find remote ref", "RefNotFound", True),
    ("not our ref", "RefNotFound", True),
    ("unadvertised object", "RefNotFound", True),
    ("unknown revision", "RefNotFound", True),
    ("Needed a single revision", "RefNotFound", True),
    ("Authentication failed", "AuthFailed", True),
    ("could not read Username", "AuthFailed", True),
    ("could not read Password", "AuthFailed", True),
    ("Permission denied (", "AuthFailed", True),
    ("The requested URL returned error: 401", "AuthFailed", True),
    ("The requested URL returned error: 403", "AuthFailed", True),
    ("Host key verification failed", "HostKeyUnknown", True),
    ("SSL certificate problem", "CertificateUnknown", True),
    ("server certificate verification failed", "CertificateUnknown", True),
    ("certificate required", "AuthFailed", True),
    ("does not appear to be a git repository", "RepositoryNotFound", True),
    ("Repository not found", "RepositoryNotFound", True),
    ("/' not found", "RepositoryNotFound", True),
    ("dubious ownership", "NotTrusted", True),
    ("mismatched algorithms", "ObjectFormatUnsupported", True),
    ("unable to update url base from redirection", "Redirected", True),
    ("The requested URL returned error: 30", "Redirected", True),
    ("The requested URL returned error: 404", "RepositoryNotFound", True),
    ("fsck error", "RepositoryDamaged", True),
    ("cannot run ssh", "ProgramMissing", True),
    ("No space left on device", "DiskFull", False),
)
PLAINLY = {  # where git speaks of a terminal that it doesn't have
    "could not read Username": "the server asks for a login, or refuses the one it was given",
    "could not read Password": "the server refuses the login",
}
COMMANDS = {"fetch", "ls-remote"}  # that talk to the other side
AWAY = ("unable to access", "Could not read from remote", "remote error", "the remote end hung up")
REMEDIES = {
    "RefNotFound": "push it, or correct `ref`",
    "AuthFailed": "check `auth` and its secret",
    "CertificateUnknown": "name its authority's certificate by `caFile`",
    "HostKeyUnknown": "add the host's key to the file `knownHosts`",
    "RepositoryNotFound": "correct `url`",
    "ProgramMissing": "install OpenSSH's client",
    "ObjectFormatUnsupported": "follow a repository made with --object-format=sha1",
    "NotTrusted": "set `trusted: true` if its owner may decide what runs",
    "Redirected": "write the new address as `url`: a login is not sent elsewhere",
}


def check(settings: GitSource) -> None:
    """Refuse a URL or ref that we don't fetch.

    Raises:
        UsageError: names the source and the field.
    """
    problem, remedy = url_problem(settings.url)
    if problem:
        where = f"source {settings.name}: url"
        raise UsageError(f"{shown(settings.url)} {problem}", where=where, remedy=remedy)
    check_way(settings)
    check_ref(settings)


def check_way(settings: GitSource) -> None:
    """Refuse a login that the URL can't take (a key would be sent as a password), or a bad proxy.

    Raises:
        UsageError: names the source and the field.
    """
    auth, over = settings.auth, scheme(settings.url)
    if auth is not None and over != "file" and (auth.type == "ssh") != (over == "ssh"):
        raise UsageError(
            f"{auth.type} is no login for {over}",
            where=f"source {settings.name}: auth.type",
            remedy="use ssh with an ssh:// URL, basic or token with an https:// one",
        )
    if settings.proxy and (problem := proxy_problem(settings.proxy)):
        raise UsageError(
            problem,
            where=f"source {settings.name}: proxy",
            remedy="write http://HOST:PORT, without a login",
        )


def proxy_problem(proxy: str) -> str:
    """Return what is wrong with a proxy's address, "" for nothing; a login in it isn't shown."""
    try:
        parts = urlsplit(proxy)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if parts.username is not None or "@" in proxy:
        return "holds a login"
    return "" if host and parts.scheme in PROXIES else "is not the URL of a proxy"


def check_ref(settings: GitSource) -> None:
    """Refuse a ref that can't be one. Raises UsageError: names the source and the field."""
    ref = settings.ref
    if ref.commit is not None and not ID.match(ref.commit):
        where = f"source {settings.name}: ref.commit"
        raise UsageError(f"{ref.commit!r} is no commit", where=where, remedy="write all 40 digits")
    for kind, name in (("name", ref.name), ("tag", ref.tag), ("branch", ref.branch)):
        if name is not None and not is_ref(name):
            where = f"source {settings.name}: ref.{kind}"
            raise UsageError(
                f"{name!r} is not a ref's name", where=where, remedy="write it as git shows it"
            )
    if ref.semver is not None:
        try:
            parse_range(ref.semver)
        except ValueError as error:
            where = f"source {settings.name}: ref.semver"
            remedy = 'write a range as ">=1.2 <2" or "1.x"'
            raise UsageError(f"{ref.semver!r}: {error}", where=where, remedy=remedy) from error


def url_problem(url: str) -> tuple[str, str]:
    """Return what is wrong with a URL, and the remedy; ("", "") when we fetch from it."""
    odd = any(ord(one) < ord(" ") or ord(one) == DELETE for one in url)
    if not odd and (local_folder(url) is not None or SCP.match(url)):
        return "", ""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "is not a URL", KINDS
    if odd or url.startswith("-") or not host or host.startswith("-"):
        return "is not a URL of a Git repository", KINDS
    if parts.scheme not in {"https", "http", "ssh"}:
        return f"is not fetched from: {parts.scheme}", KINDS
    if parts.password or (parts.username and parts.scheme != "ssh"):
        return "holds a login", "name a secret by `auth`"
    in_the_clear = parts.scheme == "http" and host not in LOOPBACK
    return ("sends everything in the clear", "use https://") if in_the_clear else ("", "")


def is_ref(name: str) -> bool:
    """Tell whether git could have a ref of that name; never what it takes for something else."""
    parts = name.split("/")
    return bool(
        NAME.match(name)
        and ".." not in name
        and "@{" not in name
        and name != "@"
        and not name.endswith(".")
        and all(part and not part.startswith(".") and not part.endswith(".lock") for part in parts)
    )


def shown(url: str) -> str:
    """Return the URL without credentials."""
    head, colon, rest = url.partition("://")
    if not colon:
        return url
    host, slash, path = rest.partition("/")
    return f"{head}://{host.rpartition('@')[2]}{slash}{path}"


def local_folder(url: str) -> Path | None:
    """Return the folder of a file:// URL or an absolute path; None for any other."""
    if url.startswith("/"):
        return Path(url)
    return Path(unquote(url.removeprefix("file://"))) if url.startswith("file:///") else None


def scheme(url: str) -> str:
    if local_folder(url) is not None:
        return "file"
    return urlsplit(url).scheme if "://" in url else "ssh"


def is_away(error: GitError) -> bool:
    """Tell whether it was the other side that failed: nothing here is to blame then."""
    if error.command not in COMMANDS:
        return False
    meant = meaning(error.text, "")
    return meant.reason != "FetchFailed" or any(saying in error.text for saying in AWAY)


def meaning(text: str, where: str) -> StalledError | TransientError:
    """Return what git's words mean: a person must act, or time may heal."""
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "git failed")
    problem = MOMENT.sub("", last.removeprefix("fatal: ").removeprefix("error: "))
    for saying, reason, stalled in SAYINGS:
        if saying in text:
            kind = StalledError if stalled else TransientError
            said = next(line for line in text.splitlines() if saying in line)
            return kind(
                PLAINLY.get(saying) or said.removeprefix("fatal: ").removeprefix("error: "),
                reason=reason,
                where=where,
                remedy=REMEDIES.get(reason, ""),
            )
    return TransientError(problem, reason="FetchFailed", where=where)
