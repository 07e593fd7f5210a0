"""Which URLs and refs are taken, how they are shown, what git's words mean."""

from pathlib import Path

import pytest

from controller.errors import StalledError, TransientError, UsageError
from controller.model.settings import GitAuth, GitRef, GitSource
from controller.source import remote
from controller.source.login import login


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.com/ops.git",
        "https://git.example.com:8443/a/b",
        "ssh://git@example.com:22/ops.git",
        "git@example.com:team/ops.git",
        "file:///srv/ops",
        "/srv/ops",
        "http://127.0.0.1:3000/ops.git",
        "http://[::1]:3000/ops.git",
    ],
)
def test_these_urls_are_taken(url):
    remote.check(GitSource(name="s", url=url))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ops",
        "./ops",
        "ext::sh -c whoami",
        "--upload-pack=touch x",
        "-x",
        "git@example.com:-oProxyCommand=x",
        "ssh://-oProxyCommand=x/y",
        "http://git.example.com/ops.git",
        "git://example.com/ops.git",
        "ftp://example.com/ops.git",
        "https://user:password@example.com/ops.git",
        "https://token@example.com/ops.git",
        "https:///ops.git",
        "file://host/share",
        "https://[::1/x",
        "https://git.example.com/x\n--upload-pack=x",
        "git@example.com:x\ty",
    ],
)
def test_these_urls_are_refused_with_a_remedy(url):
    with pytest.raises(UsageError) as caught:
        remote.check(GitSource(name="s", url=url))
    assert caught.value.where == "source s: url"
    assert caught.value.remedy
    assert "password" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["main", "feature/x", "release-1.2", "ümlaut", "v1.0", "a@b", "@x"]
)
def test_these_are_names_of_refs(name):
    assert remote.is_ref(name)


@pytest.mark.parametrize(
    "name",
    ["", "-x", "--upload-pack=x", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a@{1}",
     "@", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a.", "a\n", "a\x7f"],
)  # fmt: skip
def test_these_are_not(name):
    assert not remote.is_ref(name)
    with pytest.raises(UsageError, match=r"ref\.branch"):
        remote.check(GitSource(name="s", url="/srv/x", ref=GitRef(branch=name)))


@pytest.mark.parametrize("commit", ["", "main", "abc123", "G" * 40, "--x"])
def test_a_commit_is_written_in_full(commit):
    with pytest.raises(UsageError, match=r"ref\.commit"):
        remote.check(GitSource(name="s", url="/srv/x", ref=GitRef(commit=commit)))


@pytest.mark.parametrize(
    ("url", "kind"),
    [("https://h/x.git", "ssh"), ("git@h:x.git", "token"), ("ssh://git@h/x", "basic")],
)
def test_a_login_of_another_kind_than_the_urls_is_refused_and_never_sent(url, kind):
    with pytest.raises(UsageError, match=f"{kind} is no login for") as caught:
        remote.check(GitSource(name="s", url=url, auth=GitAuth(type=kind, secret="key")))
    assert caught.value.where == "source s: auth.type"


@pytest.mark.parametrize(
    "proxy",
    ["http://me:hush@proxy:3128", "hush@proxy", "proxy:3128", "ftp://p", "http://p:x", "-x"],
)
def test_a_proxy_is_an_address_without_a_login(proxy):
    with pytest.raises(UsageError) as caught:
        remote.check(GitSource(name="s", url="https://h/x.git", proxy=proxy))
    assert caught.value.where == "source s: proxy"
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["http://proxy:3128", "socks5h://[::1]:1080", "https://proxy"])
def test_these_proxies_are_taken(proxy):
    remote.check(GitSource(name="s", url="https://h/x.git", proxy=proxy))


def test_a_url_is_shown_without_its_login():
    assert remote.shown("https://me:secret@example.com:8443/x?y") == "https://example.com:8443/x?y"
    assert remote.shown("http://[::1]:80/x") == "http://[::1]:80/x"
    assert remote.shown("git@example.com:x") == "git@example.com:x"


def test_a_local_url_is_decoded_as_git_does():
    assert remote.local_folder("file:///a%20b/c%3Ad") == Path("/a b/c:d")
    assert remote.local_folder("/a%20b") == Path("/a%20b")
    assert remote.local_folder("https://x/y") is None


async def secret(_: str) -> str:
    return "KEY"


KEY = "-----BEGIN PRIVATE KEY-----\nKEY\n-----END PRIVATE KEY-----\n"


async def test_ssh_gets_a_private_key_that_is_gone_afterwards(tmp_path):
    async def key_of(_: str) -> str:
        return KEY

    settings = GitSource(
        name="s",
        url="git@example.com:x",
        auth=GitAuth(type="ssh", secret="k"),
        known_hosts="/etc/known hosts",
    )
    async with login(settings, key_of, tmp_path / "mirror") as env:
        command = env["GIT_SSH_COMMAND"]
        key = Path(command.rpartition("-i ")[2].strip("'"))
        assert key.read_text() == KEY
        assert key.stat().st_mode & 0o777 == 0o600
        assert key.parent.stat().st_mode & 0o777 == 0o700
    assert not key.exists()
    assert env["GIT_ALLOW_PROTOCOL"] == "ssh"
    for option in ("BatchMode=yes", "StrictHostKeyChecking=yes", '"/etc/known hosts"', "-F none"):
        assert option in command


async def test_a_token_goes_to_its_own_address_only(tmp_path):
    settings = GitSource(
        name="s", url="https://example.com/x.git", auth=GitAuth(type="token", secret="k")
    )
    async with login(settings, secret, tmp_path / "mirror") as env:
        assert env["GIT_CONFIG_KEY_0"] == "http.https://example.com/x.git.extraHeader"
        assert env["GIT_CONFIG_VALUE_0"].startswith("Authorization: Basic ")
        assert (env["GIT_CONFIG_KEY_1"], env["GIT_CONFIG_VALUE_1"]) == (
            "http.followRedirects",
            "false",
        )
        assert env["GIT_ALLOW_PROTOCOL"] == "https"


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("error: cannot run ssh: No such file or directory", StalledError, "ProgramMissing"),
        ("fatal: couldn't find remote ref refs/heads/x", StalledError, "RefNotFound"),
        ("fatal: Authentication failed for 'https://x/'", StalledError, "AuthFailed"),
        ("fatal: could not read Username for 'https://x': terminal prompts disabled", StalledError, "AuthFailed"),
        ("git@x: Permission denied (publickey).\nfatal: Could not read from remote", StalledError, "AuthFailed"),
        ("Host key verification failed.\nfatal: Could not read", StalledError, "HostKeyUnknown"),
        ("fatal: repository 'https://x/y/' not found", StalledError, "RepositoryNotFound"),
        ("error: object x: badTree\nfatal: fsck error in packed object", StalledError, "RepositoryDamaged"),
        ("fatal: write error: No space left on device", TransientError, "DiskFull"),
        ("fatal: unable to access 'https://x/': Could not resolve host: x", TransientError, "FetchFailed"),
        ("ssh: connect to host x port 22: Connection refused\nfatal: Could not read", TransientError, "FetchFailed"),
        ("", TransientError, "FetchFailed"),
    ],
)  # fmt: skip
def test_git_says_whether_a_person_must_act(text, kind, reason):
    error = remote.meaning(text, "https://x")
    assert (type(error), error.reason) == (kind, reason)
