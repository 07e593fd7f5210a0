"""How words go out: their pace, the message of a burst, where commits are told."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import config
from controller.errors import UsageError
from controller.manifest import words as configured
from controller.model.settings import Statuses
from controller.model.word import CommitState, CommitStatus, Occasion, Word
from controller.notify import forges
from controller.notify.message import BAD, NAMED, message
from controller.notify.pace import Bucket, Pace

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WORDS = st.builds(
    Word,
    id=st.just("x"),
    alert=st.just("ops"),
    occasion=st.sampled_from(Occasion),
    source=st.sampled_from(["main", "other"]),
    workflow=st.sampled_from(["", "nightly"]),
    text=st.text(max_size=50),
    at=st.just(NOW),
)


@given(st.lists(WORDS, min_size=1, max_size=2 * NAMED))
def test_a_message_counts_all_its_words_and_says_something(words):
    told = message(words)
    assert told.body
    for word in words[:NAMED]:
        assert word.subject in told.title + told.body
    if len(words) > 1:
        assert told.title.startswith(f"{len(words)} alerts: ")
    assert (told.kind == "failure") is any(word.occasion in BAD for word in words)


@given(st.lists(st.floats(0, 10), max_size=60))
def test_no_more_messages_than_the_pace_allows(pauses):
    pace = Pace(burst=3, refill=5.0)
    bucket, now, sent = Bucket(pace), 100.0, 0
    for pause in pauses:
        now += pause
        if bucket.wait(now) == 0:
            bucket.take(now)
            sent += 1
    assert sent <= pace.burst + (now - 100.0) / pace.refill + 1e-6


def test_a_bucket_that_is_empty_says_when_it_is_not():
    bucket = Bucket(Pace(burst=1, refill=10.0))
    assert bucket.wait(1000.0) == 0
    bucket.take(1000.0)
    assert bucket.wait(1004.0) == pytest.approx(6.0)
    assert bucket.wait(1010.0) == 0


@given(st.integers(1, 1000))
def test_pauses_grow_to_their_most(failures):
    pace = Pace(first=5.0, most=300.0)
    expected = min(5.0 * 2.0 ** min(failures - 1, 16), 300.0)
    assert 0.75 * expected <= pace.pause(failures) <= 1.25 * expected


# What a forge says.


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 1),
        ({"retry-after": "999999"}, 3600),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "soon"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW.timestamp()) + 60)}, 60),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "?"}, None),
        ({"x-ratelimit-remaining": "1", "x-ratelimit-reset": "9"}, None),
    ],
)
def test_a_forge_says_how_long_it_is_to_be_left_alone(headers, seconds):
    assert forges.asked_pause(headers, NOW) == seconds


@given(st.text(max_size=40))
def test_whatever_retry_after_says_is_a_bounded_pause_or_none(text):
    pause = forges.asked_pause({"retry-after": text}, NOW)
    assert pause is None or 1 <= pause <= forges.LONGEST_PAUSE


@pytest.mark.parametrize("code", [200, 201, 204])
def test_a_forge_that_takes_it_has_taken_it(code):
    assert forges.judged("github", code, {}, "") is forges.Answer.TAKEN


STATUS = CommitStatus(
    source="main",
    commit="a" * 40,
    workflow="nightly",
    state=CommitState.CANCELLED,
    text="line one\nline two " + "x" * 300,
    run="r/1",
    at=NOW,
)


@pytest.mark.parametrize(("kind", "state"), [("github", "error"), ("gitlab", "canceled")])
def test_a_request_fits_its_forge(kind, state):
    place = Statuses(
        type=kind, secret="s", api="https://x/api", repository="a/b c", target_url="https://r/{run}"
    )
    made = forges.request(place, "tok", STATUS)
    assert made.body["state"] == state
    assert "\n" not in made.body["description"]
    assert len(made.body["description"]) == (140 if kind == "github" else 255)
    assert made.body["target_url"] == "https://r/r%2F1"
    assert " " not in made.url
    assert "tok" not in repr(made)


# The configuration.


def source(place="https://git.example.com/acme/ops.git", **statuses):
    said = {"type": "gitea", "secret": "forge", **statuses}
    return {"name": "ops", "kind": "Git", "url": place, "statuses": said}


def settings(tmp_path, monkeypatch, **document):
    monkeypatch.setenv("RONDEL_STATE_DIR", str(tmp_path))
    return config.from_mapping({"secrets": {"forge": {"env": "FORGE"}}, **document})


FOLLOWING = {
    ("github", "https://github.com/acme/ops.git"): ("https://api.github.com", "acme/ops"),
    ("github", "https://ghe.example.com/acme/ops"): ("https://ghe.example.com/api/v3", "acme/ops"),
    ("gitea", "git@git.example.com:acme/ops.git"): ("https://git.example.com/api/v1", "acme/ops"),
    ("gitea", "ssh://git@git.example.com:2222/a/ops"): ("https://git.example.com/api/v1", "a/ops"),
    ("gitlab", "https://git.example.com/a/b/c.git/"): ("https://git.example.com/api/v4", "a/b/c"),
}


@pytest.mark.parametrize("given_", FOLLOWING)
def test_api_and_repository_follow_from_the_url(tmp_path, monkeypatch, given_):
    kind, url = given_
    [found] = settings(tmp_path, monkeypatch, sources=[source(url, type=kind)]).sources
    assert (found.statuses.api, found.statuses.repository) == FOLLOWING[given_]


def test_of_a_local_repository_both_are_named(tmp_path, monkeypatch):
    local = source("file:///srv/ops.git", url="https://x/api/", repository="acme/ops")
    [found] = settings(tmp_path, monkeypatch, sources=[local]).sources
    assert (found.statuses.api, found.statuses.repository) == ("https://x/api", "acme/ops")


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        (source("file:///srv/ops.git"), "statuses/url: the API's address doesn't follow"),
        (source("https://git.example.com/ops.git"), "statuses/repository: the repository's name"),
        (source("https://git.example.com/a/b/c.git"), "statuses/repository: the repository's name"),
        (source(secret="other"), "there is no secret 'other'"),
        (source(targetUrl="https://x/{what}"), "statuses/targetUrl: names something"),
    ],
)
def test_statuses_that_can_not_be_told_are_refused(tmp_path, monkeypatch, given_, words):
    with pytest.raises(UsageError) as problem:
        settings(tmp_path, monkeypatch, sources=[given_])
    assert words in str(problem.value)


@pytest.mark.parametrize(
    "url",
    ["http://git.example.com/api", "https://", "ftp://x/y", "https://u@x/y", "https://x/y?z", "x", "http://[/"],
)  # fmt: skip
def test_a_token_never_crosses_a_network_in_the_clear(url):
    with pytest.raises(UsageError):
        configured.checked_api(url, "here")
    assert configured.checked_api("http://127.0.0.1:1/api/", "here") == "http://127.0.0.1:1/api"


def test_an_alert_tells_everything_unless_it_says_what(tmp_path, monkeypatch):
    url = {"secret": "forge"}
    alerts = {"all": {"url": url}, "some": {"url": url, "events": ["Failed"], "sources": ["w"]}}
    found = settings(tmp_path, monkeypatch, alerts=alerts).alerts
    assert len(found["all"].events) == 5
    assert (found["some"].events, found["some"].sources) == ((Occasion.FAILED,), ("w",))
    with pytest.raises(UsageError, match="there is no secret 'none'"):
        settings(tmp_path, monkeypatch, alerts={"x": {"url": {"secret": "none"}}})
    with pytest.raises(UsageError):
        settings(tmp_path, monkeypatch, alerts={"x": {"url": "slack://token"}})


def test_nothing_that_sends_is_imported_before_something_is_sent():
    script = (
        "import sys, controller.daemon, controller.oneshot, controller.notify.once\n"
        "print([name for name in ('apprise', 'httpx', 'requests') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
