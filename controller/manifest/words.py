"""The parts of the configuration that say who is told: alerts, and commits' statuses."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from controller.errors import UsageError
from controller.model.settings import Alert, Statuses
from controller.model.word import OCCASIONS, Occasion

Document = Mapping[str, Any]
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
PLACES = ("source", "workflow", "run", "commit")
"""What `targetUrl` may name in braces."""


def alerts(document: Document, file: str) -> dict[str, Alert]:
    """Return who is told, by name. Raises UsageError for one whose secret isn't defined."""
    built = {}
    for name, one in document.get("alerts", {}).items():
        secret = one["url"]["secret"]
        refuse_unknown(document, secret, f"{file}: /alerts/{name}/url/secret")
        built[name] = Alert(
            name=name,
            secret=secret,
            events=tuple(map(Occasion, one.get("events", OCCASIONS))),
            sources=tuple(one.get("sources", ())),
        )
    return built


def refuse_unknown(document: Document, secret: str, where: str) -> None:
    if secret not in document.get("secrets", {}):
        remedy = "define it under `secrets`"
        raise UsageError(f"there is no secret {secret!r}", where=where, remedy=remedy)


def check_statuses(document: Document, file: str) -> None:
    """Refuse statuses whose secret isn't defined. Raises UsageError."""
    for index, source in enumerate(document.get("sources", ())):
        if told := source.get("statuses"):
            where = f"{file}: /sources/{index}/statuses/secret"
            refuse_unknown(document, told["secret"], where)


def statuses(document: Document | None, url: str, where: str) -> Statuses | None:
    """Return where the commits of the repository at `url` are told; None when nowhere.

    Raises:
        UsageError: the API's address or the repository doesn't follow from `url`; a token would
            cross the network in the clear; `targetUrl` names what there is not.
    """
    if not document:
        return None
    host, path = place(url)
    return Statuses(
        type=document["type"],
        secret=document["secret"],
        api=checked_api(document.get("url") or api(document["type"], host, where), where),
        repository=document.get("repository") or repository(document["type"], path, where),
        target_url=checked_target(document.get("targetUrl", ""), where),
    )


def place(url: str) -> tuple[str, str]:
    """Return host and path of a repository's URL; the host is "" of a local one."""
    if "://" not in url:  # as scp writes it: git@host:owner/name
        head, _, path = url.partition(":")
        return head.rpartition("@")[2], path
    parts = urlsplit(url)
    named = "" if parts.scheme == "file" else parts.hostname or ""
    return named, parts.path


def api(type_: str, host: str, where: str) -> str:
    if not host:
        problem = "the API's address doesn't follow from the source's URL"
        raise UsageError(problem, where=f"{where}/url", remedy="name it")
    if type_ == "github":
        return "https://api.github.com" if host == "github.com" else f"https://{host}/api/v3"
    return f"https://{host}/api/{'v4' if type_ == 'gitlab' else 'v1'}"


def checked_api(url: str, where: str) -> str:
    try:
        parts = urlsplit(url)
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    except ValueError:
        safe = False
    if not safe or not parts.hostname or parts.username or parts.query or parts.fragment:
        problem = "is no https address of an API"
        remedy = "write https://HOST/PATH, without a user, as the token is a secret of its own"
        raise UsageError(problem, where=f"{where}/url", remedy=remedy)
    return url.rstrip("/")


def repository(type_: str, path: str, where: str) -> str:
    """Return owner/name; at GitLab groups may be nested."""
    parts = [part for part in path.removesuffix("/").removesuffix(".git").split("/") if part]
    if len(parts) < 2 or (len(parts) > 2 and type_ != "gitlab"):  # noqa: PLR2004 - owner, name
        problem = "the repository's name doesn't follow from the source's URL"
        raise UsageError(problem, where=f"{where}/repository", remedy="write owner/name")
    return "/".join(parts)


def checked_target(url: str, where: str) -> str:
    left = url
    for name in PLACES:
        left = left.replace(f"{{{name}}}", "")
    if "{" in left or "}" in left:
        names = ", ".join(f"{{{name}}}" for name in PLACES)
        problem = "names something that there is not"
        raise UsageError(problem, where=f"{where}/targetUrl", remedy=f"use {names}")
    return url
