"""A checked configuration document to frozen settings, every default filled in."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import PurePath
from typing import Any

from controller.errors import UsageError
from controller.manifest import words
from controller.manifest.agents import agent
from controller.model.quantity import parse_duration, parse_size
from controller.model.settings import (
    DaggerSettings,
    DirectorySource,
    GitAuth,
    GitRef,
    GitSource,
    InfrastructureRetry,
    MaxParallel,
    Receiver,
    Registry,
    SecretRef,
    Settings,
    Tls,
    Verify,
)
from controller.model.workflow import (
    Backoff,
    CacheMode,
    CachePolicy,
)

Document = Mapping[str, Any]
RESERVED_SOURCE = "exec"  # runs of `rondel exec` and of the Python API belong to it


def settings(document: Document, *, state_dir: PurePath, base: PurePath, file: str) -> Settings:
    """Return the settings that a schema-checked `document` stands for.

    `base` is the folder that relative paths start from; `file` names the document in errors.

    Raises:
        UsageError: what the schema can't say: a name used twice, a bad URL, a bad interval.
    """
    words.check_statuses(document, file)
    retry = document.get("infrastructureRetry", {})
    history = document.get("history", {})
    return Settings(
        state_dir=state_dir,
        store_url=document.get("store", {}).get("url", "").replace("{stateDir}", str(state_dir)),
        **listener(document, base),
        executor=document.get("executor", "dagger"),
        max_parallel=MaxParallel(**document.get("maxParallel", {})),
        shutdown_grace=duration(document, "shutdownGrace", timedelta(seconds=60)),
        infrastructure_retry=infrastructure_retry(retry),
        log_max_size=size(document.get("logs", {}), "maxSize", 64 << 20),
        input_max_size=size(document.get("inputs", {}), "maxSize", 256 << 20),
        groups={name: one["limit"] for name, one in document.get("groups", {}).items()},
        local_user=document.get("local", {}).get("user"),
        sources=sources(document.get("sources", ()), base, file),
        secrets={name: secret(name, ref) for name, ref in document.get("secrets", {}).items()},
        receivers=receivers(document, file),
        alerts=words.alerts(document, file),
        history_successful=history.get("successful", 10),
        history_failed=history.get("failed", 20),
        history_ttl=duration(history, "ttl", timedelta(days=90)),
        dagger=dagger_settings(document.get("dagger") or {}),
        file=file or None,
    )


def infrastructure_retry(document: Document) -> InfrastructureRetry:
    standard = InfrastructureRetry()
    backoff = document.get("backoff", {})
    return InfrastructureRetry(
        limit=document.get("limit", standard.limit),
        backoff=Backoff(
            duration=duration(backoff, "duration", standard.backoff.duration),
            factor=backoff.get("factor", standard.backoff.factor),
            max_duration=duration(backoff, "maxDuration", standard.backoff.max_duration),
        ),
        patterns=tuple(document.get("patterns", ())),
    )


def sources(
    documents: list[Document], base: PurePath, file: str
) -> tuple[GitSource | DirectorySource, ...]:
    built = tuple(
        source(document, base, f"{file}: /sources/{i}") for i, document in enumerate(documents)
    )
    names = [one.name for one in built]
    for index, name in enumerate(names):
        where = f"{file}: /sources/{index}/name"
        if name in names[:index]:
            raise UsageError(f"two sources are named {name!r}", where=where, remedy="rename one")
        if name == RESERVED_SOURCE:
            raise UsageError(f"{name!r} is reserved", where=where, remedy="choose another name")
    for index, one in enumerate(built):
        for other in set(one.read_from) - {*names}:
            where = f"{file}: /sources/{index}/cache/readFrom"
            raise UsageError(f"there is no source {other!r}", where=where, remedy="name one")
    return built


def source(document: Document, base: PurePath, where: str) -> GitSource | DirectorySource:
    git = document["kind"] == "Git"
    built = git_source(document, base, where) if git else directory_source(document, base)
    for field in ("interval", "timeout"):
        value = getattr(built, field, None)
        if value is not None and value < timedelta(seconds=1):
            raise UsageError("is under 1s", where=f"{where}/{field}", remedy="write 1s or more")
    return built


def git_source(document: Document, base: PurePath, where: str) -> GitSource:
    auth = document.get("auth")
    return GitSource(
        name=document["name"],
        url=document["url"],
        ref=GitRef(**document.get("ref", {})),
        path=document.get("path", "").strip("/"),
        ignore=tuple(document.get("ignore", ())),
        interval=duration(document, "interval", timedelta(minutes=1)),
        timeout=duration(document, "timeout", timedelta(seconds=60)),
        auth=GitAuth(**auth) if auth else None,
        known_hosts=str(base / document["knownHosts"]) if document.get("knownHosts") else None,
        ca_file=str(base / document["caFile"]) if document.get("caFile") else None,
        client_cert=client_cert(document, base),
        verify=verify(document, base),
        proxy=document.get("proxy"),
        submodules=document.get("submodules", False),
        lfs=document.get("lfs", False),
        statuses=words.statuses(document.get("statuses"), document["url"], f"{where}/statuses"),
        trusted=document.get("trusted", False),
        atomic=document.get("atomic", False),
        **common(document),
    )


def client_cert(document: Document, base: PurePath) -> Tls | None:
    files = document.get("clientCert")
    return Tls(cert=str(base / files["cert"]), key=str(base / files["key"])) if files else None


def verify(document: Document, base: PurePath) -> Verify | None:
    """Return what must be signed. Raises UsageError for a tag where none is followed."""
    wanted = document.get("verify")
    if not wanted:
        return None
    mode, ref = wanted.get("mode", "HEAD"), GitRef(**document.get("ref", {}))
    if mode != "HEAD" and ref.given[:1] not in {("tag",), ("semver",)}:
        raise UsageError(
            f"{mode} checks a tag, and no tag is followed",
            where=f"source {document['name']}: verify.mode",
            remedy="give `ref.tag` or `ref.semver`, or use mode: HEAD",
        )
    return Verify(mode=mode, keys=tuple(str(base / key) for key in wanted["keys"]))


def directory_source(document: Document, base: PurePath) -> DirectorySource:
    return DirectorySource(
        name=document["name"],
        path=str(base / document["path"]),
        ignore=tuple(document.get("ignore", ())),
        interval=duration(document, "interval", timedelta(minutes=1)),
        trusted=document.get("trusted", True),
        **common(document),
    )


def common(document: Document) -> dict[str, Any]:
    return {
        "read_from": tuple(document.get("cache", {}).get("readFrom", ())),
        "share_caches": document.get("cache", {}).get("shareCaches"),
        "exports": document.get("exports", False),
        "prune": document.get("prune", True),
        "allow_empty": document.get("allowEmpty", False),
        "suspend": document.get("suspend", False),
    }


def secret(name: str, document: Document) -> SecretRef:
    ways = [way for way in ("env", "file", "command") if way in document]
    if len(ways) != 1:
        raise UsageError(
            "says " + ("nothing of" if not ways else "more than once") + " where its value is",
            where=f"/secrets/{name}",
            remedy="give exactly one of env, file, command",
        )
    return SecretRef(
        name=name,
        env=document.get("env"),
        file=document.get("file"),
        command=tuple(document["command"]) if "command" in document else None,
        version=str(document.get("version", "")),
        sources=tuple(document.get("sources", ())),
    )


def listener(document: Document, base: PurePath) -> dict[str, Any]:
    tls = document.get("tls")
    return {
        "listen": document.get("listen"),
        "tls": Tls(cert=str(base / tls["cert"]), key=str(base / tls["key"])) if tls else None,
        "insecure": document.get("insecure", False),
        "hosts": tuple(host.lower() for host in document.get("hosts", ())),
    }


def receivers(document: Document, file: str) -> dict[str, Receiver]:
    """Return the doors for webhooks. Raises UsageError for one whose secret isn't defined."""
    built = {}
    for name, one in document.get("receivers", {}).items():
        words.refuse_unknown(document, one["secret"], f"{file}: /receivers/{name}/secret")
        built[name] = Receiver(
            name=name,
            type=one["type"],
            secret=one["secret"],
            sources=tuple(one.get("sources", ())),
        )
    return built


def dagger_settings(document: Document) -> DaggerSettings:
    workflows = document.get("workflows", {})
    return DaggerSettings(
        engines=tuple(document.get("engines", ())),
        cli=document.get("cli", "dagger"),
        registries=tuple(
            Registry(
                host=host,
                username=login["username"],
                secret=login["password"]["secret"],
                sources=tuple(login.get("sources", ())),
            )
            for host, login in document.get("registries", {}).items()
        ),
        default_registry=document.get("defaultRegistry", "docker.io"),
        workflow_timeout=duration(workflows, "timeout", timedelta(hours=1)),
        retry_limit=workflows.get("retry", {}).get("limit", 0),
        cache=cache_policy(workflows.get("cache", {})),
        cache_enabled=workflows.get("cache", {}).get("enabled", True),
        cache_max_size=size(workflows.get("cache", {}), "maxSize", 10 << 30),
        max_concurrent_runs=document.get("maxConcurrentRuns", 10),
        agents={name: agent(name, one) for name, one in document.get("agents", {}).items()},
    )


def cache_policy(document: Document) -> CachePolicy:
    enabled = document.get("enabled", True)
    return CachePolicy(
        mode=CacheMode(document.get("mode", CacheMode.OFF)) if enabled else CacheMode.OFF,
        ttl=duration(document, "ttl", CachePolicy().ttl),
    )


def duration(document: Document, key: str, default: timedelta) -> timedelta:
    if key not in document:
        return default
    try:
        return parse_duration(document[key])
    except ValueError as error:
        raise UsageError(str(error), where=f"/{key}") from error


def size(document: Document, key: str, default: int) -> int:
    if key not in document:
        return default
    return parse_size(str(document[key]))
