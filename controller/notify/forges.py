"""Commit statuses as GitHub, GitLab and Gitea (Forgejo) take them: one request each."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any
from urllib.parse import quote

from controller.model.settings import Statuses
from controller.model.word import CommitState, CommitStatus
from controller.notify.message import cut

LONGEST_PAUSE = 3600.0
"""Seconds; a forge that asks for more is asked again after these."""

_STATES: Mapping[str, Mapping[CommitState, str]] = {
    "github": {
        CommitState.PENDING: "pending",
        CommitState.SUCCESS: "success",
        CommitState.FAILURE: "failure",
        CommitState.ERROR: "error",
        CommitState.CANCELLED: "error",
    },
    "gitlab": {
        CommitState.PENDING: "pending",
        CommitState.SUCCESS: "success",
        CommitState.FAILURE: "failed",
        CommitState.ERROR: "failed",
        CommitState.CANCELLED: "canceled",
    },
}
_STATES = {**_STATES, "gitea": _STATES["github"]}
_LONGEST = {"github": 140, "gitlab": 255, "gitea": 255}
"""Letters of a description."""

_AGAIN_AT_GITLAB = "cannot transition status"
"""GitLab's answer to a state that it has already."""


@dataclass(frozen=True, slots=True)
class Request:
    """A POST with a JSON body; `repr` shows no token."""

    url: str
    headers: Mapping[str, str]
    body: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Request({self.url})"


class Answer(Enum):
    TAKEN = "taken"
    LATER = "later"  # it may be taken another time
    REFUSED = "refused"  # it never will


def context(status: CommitStatus) -> str:
    """Return the name that the forge shows: of a workflow, or of the source as a whole."""
    return "/".join(filter(None, ("rondel", status.source, status.workflow)))


def request(place: Statuses, token: str, status: CommitStatus) -> Request:
    """Return the request that tells the forge of a status."""
    name = context(status)
    body = {
        "state": _STATES[place.type][status.state],
        "description": cut(" ".join(status.text.split()), _LONGEST[place.type]),
        ("name" if place.type == "gitlab" else "context"): name,
    }
    if target := target_url(place.target_url, status):
        body["target_url"] = target
    return Request(url(place, status.commit), headers(place.type, token), body)


def url(place: Statuses, commit: str) -> str:
    if place.type == "gitlab":
        return f"{place.api}/projects/{quote(place.repository, safe='')}/statuses/{commit}"
    return f"{place.api}/repos/{quote(place.repository)}/statuses/{commit}"


def headers(type_: str, token: str) -> dict[str, str]:
    told = {"User-Agent": "rondel", "Accept": "application/json"}
    if type_ == "github":
        told |= {
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
    if type_ == "gitlab":
        return {**told, "PRIVATE-TOKEN": token}
    return {**told, "Authorization": f"{'Bearer' if type_ == 'github' else 'token'} {token}"}


def target_url(template: str, status: CommitStatus) -> str:
    values = {
        "source": status.source,
        "workflow": status.workflow,
        "run": status.run,
        "commit": status.commit,
    }
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", quote(value, safe=""))
    return template


def judged(type_: str, code: int, told: Mapping[str, str], text: str) -> Answer:
    """Say what an answer means: its status code, its headers in lower case, its text."""
    if code < 300:  # noqa: PLR2004 - taken
        return Answer.TAKEN
    if type_ == "gitlab" and code == 400 and _AGAIN_AT_GITLAB in text.lower():  # noqa: PLR2004
        return Answer.TAKEN
    if code == 429 or code >= 500 or is_limited(code, told):  # noqa: PLR2004 - come again
        return Answer.LATER
    return Answer.REFUSED


def is_limited(code: int, told: Mapping[str, str]) -> bool:
    """GitHub's limits also come as 403, and say so in their headers."""
    limited = "retry-after" in told or told.get("x-ratelimit-remaining") == "0"
    return code == 403 and limited  # noqa: PLR2004 - forbidden


def asked_pause(told: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that a forge asks to be left alone, None when it doesn't say."""
    if (after := told.get("retry-after")) is not None:
        return bounded(seconds_of(after, now))
    if told.get("x-ratelimit-remaining") == "0" and "x-ratelimit-reset" in told:
        reset = number_of(told["x-ratelimit-reset"])
        return None if reset is None else bounded(reset - now.timestamp())
    return None


def seconds_of(text: str, now: datetime) -> float | None:
    """Read `Retry-After`: seconds, or a date."""
    if (number := number_of(text)) is not None:
        return number
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()


def number_of(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdecimal() else None


def bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(seconds, 1.0), LONGEST_PAUSE)


def complaint(code: int, document: Any, text: str, token: str) -> str:
    """Return what a forge said against it, on one line, without the token."""
    said = document.get("message", "") if isinstance(document, dict) else text
    words = " ".join(str(said).split())
    if token:
        words = words.replace(token, "***")
    return cut(f"it answered {code}{': ' if words else ''}{words}", 300)
