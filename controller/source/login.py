"""How git is let in: by an HTTP header, a certificate or an SSH key, for one command each."""

import base64
import binascii
import shlex
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from controller.errors import StalledError
from controller.model.settings import GitSource, Tls
from controller.source.remote import Secret, scheme, shown

SCRATCH = ".login-"  # what the names of our folders begin with
OPENSSH = "OPENSSH PRIVATE KEY-----"
UNPROTECTED = b"openssh-key-v1\0\0\0\0\x04none"  # what the key's bytes begin with


@asynccontextmanager
async def login(
    settings: GitSource, secret: Secret | None, folder: Path
) -> AsyncIterator[Mapping[str, str]]:
    """Yield the environment that lets git in; secrets never stand in an argument.

    Files that it names (a key) are made beside `folder` and gone after the block.

    Raises:
        StalledError: there is no such secret, or ssh has no known hosts.
    """
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder.parent) as scratch:
        place = Path(scratch)
        env = {"GIT_ALLOW_PROTOCOL": scheme(settings.url), "GIT_CONFIG_GLOBAL": trusting(place)}
        if settings.proxy:
            env |= {"https_proxy": settings.proxy, "http_proxy": settings.proxy}
        value = await value_of(settings, secret)
        if scheme(settings.url) == "ssh":
            env |= ssh(settings, write_key(place, value) if value is not None else None)
        elif scheme(settings.url) != "file":
            env |= http(settings, value)
        yield env


def trusting(place: Path) -> str:
    """Git asks the other side of a local fetch whose it is; we have asked already."""
    path = place / "config"
    path.write_text("[safe]\n\tdirectory = *\n")
    return str(path)


async def value_of(settings: GitSource, secret: Secret | None) -> str | None:
    if settings.auth is None:
        return None
    if secret is None:
        raise StalledError("no secrets are configured", reason="SecretUnknown")
    return await secret(settings.auth.secret)


def http(settings: GitSource, value: str | None) -> Mapping[str, str]:
    """A login is sent to this address only: redirects are not followed with it."""
    pairs = {}
    if value is not None:
        pairs["extraHeader"] = f"Authorization: Basic {basic(settings, value)}"
    if settings.client_cert is not None:
        check_certificate(settings.client_cert)
        pairs |= {"sslCert": settings.client_cert.cert, "sslKey": settings.client_cert.key}
    named = {f"http.{shown(settings.url)}.{key}": text for key, text in pairs.items()}
    if named:
        named["http.followRedirects"] = "false"
    env = {"GIT_CONFIG_COUNT": str(len(named))}
    for number, (name, text) in enumerate(named.items()):
        env |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": text}
    if settings.ca_file is not None:
        content_of(settings.ca_file, "caFile")
        env["GIT_SSL_CAINFO"] = settings.ca_file
    return env


def basic(settings: GitSource, value: str) -> str:
    auth = settings.auth
    token = auth is not None and auth.type == "token"
    user = (auth and auth.username) or ("x-access-token" if token else "git")
    return base64.b64encode(f"{user}:{value}".encode()).decode()


def check_certificate(files: Tls) -> None:
    """Refuse files that can't be read, and a key that only a passphrase opens."""
    content_of(files.cert, "clientCert.cert")
    if is_protected(content_of(files.key, "clientCert.key")):
        raise protected("clientCert.key")


def content_of(path: str, field: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError as error:
        raise StalledError(
            f"{path}: {error.strerror or error}",
            reason="FileUnreadable",
            where=field,
            remedy="correct the path, or who may read it",
        ) from error


def is_protected(key: str) -> bool:
    """Tell whether a private key is opened by a passphrase: nobody is there to ask for it."""
    if OPENSSH not in key:
        return "ENCRYPTED" in key
    try:
        return not base64.b64decode("".join(body(key)), validate=True).startswith(UNPROTECTED)
    except binascii.Error:
        return False  # ssh says what is wrong with it


def body(key: str) -> Iterator[str]:
    yield from (line.strip() for line in key.splitlines() if "-----" not in line)


def protected(what: str) -> StalledError:
    return StalledError(
        "the private key is protected by a passphrase, which nobody can be asked for",
        reason="KeyProtected",
        where=what,
        remedy="use a key of the controller's own without one (ssh-keygen -p -N '')",
    )


def write_key(place: Path, value: str) -> Path:
    if "PRIVATE KEY-----" not in value:
        raise StalledError(
            "the secret holds no private key",
            reason="AuthFailed",
            where="auth",
            remedy="give it the file as ssh-keygen wrote it, its first and last line too",
        )
    if is_protected(value):
        raise protected("auth")
    path = place / "identity"
    path.touch(0o600)
    path.write_text(value.rstrip("\n") + "\n")
    return path


def ssh(settings: GitSource, key: Path | None) -> Mapping[str, str]:
    return {"GIT_SSH_COMMAND": shlex.join(ssh_words(settings, key)), "GIT_SSH_VARIANT": "ssh"}


def ssh_words(settings: GitSource, key: Path | None) -> list[str]:
    """Return how ssh is called: with this key alone, and with hosts whose keys are known."""
    if settings.known_hosts is None:
        raise StalledError(
            "ssh needs the keys of its hosts",
            reason="HostKeyUnknown",
            where=shown(settings.url),
            remedy="name a file by `knownHosts`",
        )
    return [
        *("ssh", "-F", "none", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes"),
        f'-oUserKnownHostsFile="{settings.known_hosts}"',
        *("-oGlobalKnownHostsFile=/dev/null", "-oIdentitiesOnly=yes"),
        *(("-i", str(key)) if key else ()),
    ]
