"""An attempt's request as a container: files, variables, secrets, command."""

import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from controller.execute.ports import AttemptRequest, CacheMount, SecretValue

if TYPE_CHECKING:
    import dagger

WORK = "/work"
INPUTS = "/rondel/inputs.json"
BUSTER = "RONDEL_NONCE"
SECRET_MODE = 0o400
FOLDER_MODE = 0o755  # the SDK's own default is one that only root can enter

Target = TypeVar("Target", "dagger.Container", "dagger.Directory")


def place(path: str) -> str:
    """Return where a path of the workspace is in the container; an absolute one stays."""
    return posixpath.normpath(posixpath.join(WORK, path))


def with_workspace(
    made: "dagger.Container", files: "dagger.Directory", user: str
) -> "dagger.Container":
    """Mount a writable copy of `files` as the workspace: nothing of the image is seen there."""
    return made.with_mounted_directory(WORK, files, owner=user)


def prepare(
    client: "dagger.Client",
    base: "dagger.Container",
    request: AttemptRequest,
    *,
    user: str,
    folder: Path,
) -> "dagger.Container":
    """Return `base` with everything in place but the command.

    What never changes stands first, so that the engine's cache is of use; the run's own names are
    volatile and no part of its keys.
    """
    made = base if request.user is None else base.with_user(request.user)
    made = with_mounts(client, made, request, user)
    for cache in request.caches:
        made = with_cache(client, made, cache, user)
    hosts = {service.host_variable: service.name for service in request.services}
    for name, value in sorted({**hosts, **request.env}.items()):
        made = made.with_env_variable(name, value)
    for number, secret in enumerate(request.secrets):
        path = folder / f"{request.nonce}.{number}"
        made = with_secret(client, made, secret, path=path, user=user)
    if request.inputs is not None:
        made = made.with_new_file(INPUTS, request.inputs.decode())
        made = made.with_env_variable("RONDEL_INPUTS", INPUTS)
    made = made.with_workdir(place(request.workdir))
    for name, value in request.context.items():
        made = made.with_volatile_variable(name, value)
    return made


def with_mounts(
    client: "dagger.Client", made: "dagger.Container", request: AttemptRequest, user: str
) -> "dagger.Container":
    """Copy what is mounted: the workspace's own in one piece, absolute paths each by itself."""
    inside = [one for one in request.mounts if not posixpath.isabs(one.path)]
    folders = own_folders(request)
    if inside or folders or request.user is not None:
        files = client.directory()
        for path in folders:
            files = files.with_new_directory(path, permissions=FOLDER_MODE)
        for one in inside:
            files = with_copy(client, files, posixpath.normpath(one.path), one.source)
        made = with_workspace(made, files, user)
    for one in request.mounts:
        if posixpath.isabs(one.path):
            made = with_copy(client, made, one.path, one.source, owner=user)
    return made


def own_folders(request: AttemptRequest) -> list[str]:
    """Return the folders of the workspace that the engine would make as root's."""
    paths = [request.workdir, *(posixpath.dirname(cache.path) for cache in request.caches)]
    plain = {posixpath.normpath(path or ".") for path in paths}
    return sorted(path for path in plain - {"."} if not posixpath.isabs(path))


def with_copy(
    client: "dagger.Client", made: Target, path: str, source: Path, *, owner: str = ""
) -> Target:
    """Add a file or folder of this host; never cached by its path, a host's file changes."""
    if source.is_dir():
        folder = client.host().directory(str(source), no_cache=True)
        return made.with_directory(path, folder, owner=owner)
    return made.with_file(path, client.host().file(str(source), no_cache=True), owner=owner)


def with_cache(
    client: "dagger.Client", made: "dagger.Container", cache: CacheMount, user: str
) -> "dagger.Container":
    """Mount a cache volume; it hides what stands there, and is no part of what a step wrote."""
    import dagger  # noqa: PLC0415 - a second to import

    return made.with_mounted_cache(
        place(cache.path),
        client.cache_volume(f"rondel-{cache.identity}"),
        sharing=dagger.CacheSharingMode[cache.sharing.name],
        owner=user,
    )


def in_cache(path: str, request: AttemptRequest) -> bool:
    """Tell whether a path of the container is in a cache: the engine lets nothing out of one."""
    return any(
        path == at or path.startswith(f"{at}/")
        for at in (place(cache.path) for cache in request.caches)
    )


def with_secret(
    client: "dagger.Client",
    made: "dagger.Container",
    secret: SecretValue,
    *,
    path: Path,
    user: str,
) -> "dagger.Container":
    """Hand a secret over by a file that only we can read; its key names it, never its value."""
    path.touch(mode=0o600)
    path.write_text(secret.value, encoding="utf-8")
    handle = client.secret(f"file://{path}", cache_key=secret.identity)
    if secret.file is not None:
        at = place(secret.file)
        return made.with_mounted_secret(at, handle, owner=user, mode=SECRET_MODE)
    return made.with_secret_variable(secret.name or "", handle)


def with_command(made: "dagger.Container", request: AttemptRequest) -> "dagger.Container":
    """Add the command; any exit code is a result, so that what a failed step wrote is kept."""
    import dagger  # noqa: PLC0415 - a second to import

    if not request.cacheable:
        # A fresh variable just before the command: a nightly job really runs.
        made = made.with_env_variable(BUSTER, request.nonce)
    # With ANY a failure would be a result that the engine keeps: never where results are kept.
    expect = dagger.ReturnType.SUCCESS if request.cacheable else dagger.ReturnType.ANY
    # Without a command the image's own is run, as `docker run` does.
    return made.with_exec(list(request.argv), use_entrypoint=not request.argv, expect=expect)
