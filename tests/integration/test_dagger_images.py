"""Secrets, images and logins, on an engine's double."""

import stat
from pathlib import Path

import pytest

from controller.execute.ports import SecretValue, Verdict
from controller.model.settings import Registry
from tests.dagger_double.house import Page


async def test_a_secret_goes_by_a_private_file_and_is_keyed_by_its_name(house):
    secrets = (
        SecretValue(identity="test/token@1", value="s3cr3t-value", name="TOKEN"),
        SecretValue(identity="test/token@1", value="s3cr3t-value", file="t.txt"),
    )
    async with house.session() as session:
        request = house.request('test "$TOKEN" = "$(cat t.txt)" && echo same', secrets=secrets)
        outcome = await session.attempt(request, page := Page())
        (folder,) = {Path(uri(made)).parent for made in house.engine.executions}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert all(
            stat.S_IMODE(one.stat().st_mode) == 0o600
            for one in folder.iterdir()
            if one.is_file() and one.suffix
        )
    assert (outcome.exit_code, page.written["stdout"]) == (0, b"same\n")
    sent = "".join(house.engine.requests)
    assert "s3cr3t" not in sent
    assert 'cacheKey: "test/token@1"' in sent
    for pid in house.cli.pids:
        assert "s3cr3t" not in str(house.cli.environment(pid)) + str(house.cli.argv(pid))
    assert not folder.exists()


def uri(made):
    (args,) = made.args("withSecretVariable")
    return args["secret"].calls[0][1]["uri"].removeprefix("file://")


async def test_an_image_is_resolved_once_in_a_run_and_recorded(house):
    async with house.session(default_registry="registry.example.com") as session:
        for _ in range(2):
            await session.attempt(house.request("true"), Page())
        versions = session.versions
    pinned = f"registry.example.com/busybox@sha256:{'0' * 64}"
    assert versions["image:busybox"] == pinned
    assert len(house.query("imageRef")) == 1
    assert [made.args("from")[-1]["address"] for made in house.engine.executions] == [pinned] * 2


async def test_versions_of_engine_command_and_sdk_are_recorded(house):
    async with house.session() as session:
        versions = session.versions
    assert versions["dagger-engine"] == versions["dagger-cli"] == "v0.21.7"
    assert versions["dagger-sdk"].startswith("0.21.")


@pytest.mark.parametrize(("source", "sees"), [("test", True), ("other", False)])
async def test_a_login_serves_only_the_sources_it_names(house, source, sees):
    login = Registry(host="docker.io", username="ci", secret="reg", sources=("test",))
    async with house.session(source=source, registries=(login,)) as session:
        await session.attempt(house.request("true"), Page())
    assert bool(house.query("withRegistryAuth")) is sees
    assert ("the password reg" in "".join(house.engine.requests)) is sees


@pytest.mark.parametrize(
    ("words", "verdict", "reason"),
    [
        ("pull access denied: authorization failed", Verdict.STALLED, "LoginFailed"),
        (
            'failed to resolve image "docker.io/no": docker.io/no: not found',
            Verdict.STALLED,
            "ImageNotFound",
        ),
        ("dial tcp: lookup docker.io: no such host", Verdict.TRANSIENT, "RegistryUnavailable"),
    ],
)
async def test_an_image_that_can_not_be_had_is_told_by_its_cause(house, words, verdict, reason):
    house.engine.refusals["docker.io/no"] = words
    async with house.session() as session:
        outcome = await session.attempt(house.request("true", image="no"), Page())
        assert (outcome.verdict, outcome.reason) == (verdict, reason)
        assert (await session.attempt(house.request("true"), Page())).exit_code == 0
