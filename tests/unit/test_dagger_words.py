"""What the engine's words mean, and how images are named."""

import pytest

from controller.execute.dagger.errors import LONGEST, meaning, outcome
from controller.execute.dagger.images import full_name, host_of
from controller.execute.ports import Verdict

T, S = Verdict.TRANSIENT, Verdict.STALLED


@pytest.mark.parametrize(
    ("text", "verdict", "reason"),
    [
        ("waiting for client session attachables: context deadline exceeded", T, "SessionLost"),
        ("unexpected status 502 Bad Gateway", T, "SessionLost"),
        (
            'failed to resolve image "a/b": unexpected status: 502 Bad Gateway',
            T,
            "RegistryUnavailable",
        ),
        ("session 3fk2 not found", T, "SessionLost"),
        ("bound service 7dk (aliased as db) exited: exit code: 9", S, "ServiceEnded"),
        ("bound service 7dk (aliased as db) exited", S, "ServiceEnded"),
        ("service exited before healthcheck", S, "ServiceNotReady"),
        ("find uid: no such user: somebody", S, "UserUnknown"),
        ("get user: unable to find user somebody: no matching entries", S, "UserUnknown"),
        ("resolving: context canceled", T, "SessionLost"),
        ("pulling x: 429 Too Many Requests", T, "RegistryUnavailable"),
        ("toomanyrequests: You have reached your pull rate limit", T, "RegistryUnavailable"),
        ("dial tcp: lookup registry.example.com: no such host", T, "RegistryUnavailable"),
        ("dial tcp 10.0.0.1:443: connect: connection refused", T, "RegistryUnavailable"),
        ("received unexpected HTTP status: 503 Service Unavailable", T, "RegistryUnavailable"),
        ("net/http: TLS handshake timeout", T, "RegistryUnavailable"),
        (
            "pull access denied, or may require authorization: insufficient_scope",
            S,
            "LoginFailed",
        ),
        ("authorization failed: no basic auth credentials", S, "LoginFailed"),
        ('failed to resolve image "x:y": docker.io/library/x:y: not found', S, "ImageNotFound"),
        ("manifest unknown: manifest unknown", S, "ImageNotFound"),
        (
            'failed to resolve image "r.example/x:502": r.example/x:502: not found',
            S,
            "ImageNotFound",
        ),
        (
            'failed to resolve image "r.example/x:429": r.example/x:429: not found',
            S,
            "ImageNotFound",
        ),
        ("unexpected status from HEAD request to https://r/v2/: 403 Forbidden", S, "LoginFailed"),
        ("failed to parse image address Bad: invalid reference format", S, "ImageInvalid"),
        ("no match for platform in manifest", S, "ImageInvalid"),
        ("solve: context deadline exceeded", T, "EngineTimeout"),
        ("invalid reference format: repository name must be lowercase", S, "ImageInvalid"),
        ("write /var/lib/dagger/x: no space left on device", T, "EngineDiskFull"),
        ("something nobody has seen", S, "EngineError"),
    ],
)
def test_the_engines_words(text, verdict, reason):
    assert meaning(text) == (verdict, reason)


def test_long_words_are_cut():
    assert len(outcome("x " * 5000).error) <= LONGEST + 3


@pytest.mark.parametrize(
    ("image", "name", "host"),
    [
        ("busybox:1.36", "docker.io/busybox:1.36", "docker.io"),
        ("acme/tool", "docker.io/acme/tool", "docker.io"),
        (
            "registry.example.com/acme/tool",
            "registry.example.com/acme/tool",
            "registry.example.com",
        ),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x", "127.0.0.1:5000"),
        ("localhost/x", "localhost/x", "localhost"),
    ],
)
def test_an_image_without_a_registry_gets_the_configured_one(image, name, host):
    assert full_name(image, "docker.io") == name
    assert host_of(name) == host
