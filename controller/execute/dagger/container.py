"""An attempt's request as a container: image, files, variables, secrets, command."""

import posixpath
from pathlib import Path
from typing import TYPE_CHECKING

from controller.execute.ports import AttemptRequest, SecretValue

if TYPE_CHECKING:
    import dagger

WORK = "/work"
INPUTS = "/rondel/inputs.json"
BUSTER = "RONDEL_NONCE"
SECRET_MODE = 0o400


def place(path: str) -> str:
    """Return where a path of the workspace is in the container."""
    return posixpath.normpath(posixpath.join(WORK, path))


def prepare(
    client: "dagger.Client", base: "dagger.Container", request: AttemptRequest, folder: Path
) -> "dagger.Container":
    """Return `base` with everything in place but the command.

    What never changes stands first, so that the engine's cache is of use; the run's own names are
    volatile and no part of its keys.
    """
    made = base.with_directory(WORK, client.directory())
    made = with_mounts(client, made, request)
    for name, value in sorted(request.env.items()):
        made = made.with_env_variable(name, value)
    for number, secret in enumerate(request.secrets):
        made = with_secret(client, made, secret, folder / f"{request.nonce}.{number}")
    if request.inputs is not None:
        made = made.with_new_file(INPUTS, request.inputs.decode())
        made = made.with_env_variable("RONDEL_INPUTS", INPUTS)
    made = made.with_workdir(place(request.workdir))
    for name, value in request.context.items():
        made = made.with_volatile_variable(name, value)
    return made


def with_mounts(
    client: "dagger.Client", made: "dagger.Container", request: AttemptRequest
) -> "dagger.Container":
    """Copies, so that a step may write to them; never cached by path: a host's file changes."""
    for mount in request.mounts:
        if mount.source.is_dir():
            folder = client.host().directory(str(mount.source), no_cache=True)
            made = made.with_directory(place(mount.path), folder)
        else:
            file = client.host().file(str(mount.source), no_cache=True)
            made = made.with_file(place(mount.path), file)
    return made


def with_secret(
    client: "dagger.Client", made: "dagger.Container", secret: SecretValue, path: Path
) -> "dagger.Container":
    """Hand a secret over by a file that only we can read; its key names it, never its value."""
    path.touch(mode=0o600)
    path.write_text(secret.value, encoding="utf-8")
    handle = client.secret(f"file://{path}", cache_key=secret.identity)
    if secret.file is not None:
        return made.with_mounted_secret(place(secret.file), handle, mode=SECRET_MODE)
    return made.with_secret_variable(secret.name or "", handle)


def with_command(made: "dagger.Container", request: AttemptRequest) -> "dagger.Container":
    """Add the command; any exit code is a result, so that what a failed step wrote is kept."""
    import dagger  # noqa: PLC0415 - a second to import

    if not request.cacheable:
        # A fresh variable just before the command: a nightly job really runs.
        made = made.with_env_variable(BUSTER, request.nonce)
    # With ANY a failure would be a result that the engine keeps: never where results are kept.
    expect = dagger.ReturnType.SUCCESS if request.cacheable else dagger.ReturnType.ANY
    return made.with_exec(list(request.argv), expect=expect)
