"""A secret's name to its value: only the operator's configuration says where it comes from."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from controller import environment
from controller.errors import StalledError, TransientError
from controller.model.settings import SecretRef

COMMAND_TIMEOUT_SECONDS = 30


class ConfiguredSecrets:
    """Resolves the secrets of the configuration; implements `execute.ports.Secrets`."""

    def __init__(self, refs: Mapping[str, SecretRef]) -> None:
        self._refs = refs

    def use(self, refs: Mapping[str, SecretRef]) -> None:
        """Resolve by these from now on."""
        self._refs = refs

    async def resolve(self, source: str, names: tuple[str, ...]) -> Mapping[str, tuple[str, str]]:
        """Return name -> ("<source>/<name>@<version>", value) for what `source` may use.

        Raises:
            StalledError: SecretUnknown, SecretRefused, SecretUnavailable.
            TransientError: SecretUnavailable, when its command ran out of time.
        """
        return {name: await self._resolve_one(source, name) for name in names}

    async def operator(self, name: str) -> str:
        """Return the value for the operator's own use: a Git token, a registry's password."""
        return await read_value(self._known(name))

    def fault(self, source: str, name: str) -> str | None:
        """Return what is wrong with `source` using `name`, None when nothing is."""
        ref = self._refs.get(name)
        if ref is None:
            return f"secret {name!r} is not in the configuration"
        if source not in ref.sources:
            return f"secret {name!r} is not for source {source!r}"
        return None

    async def _resolve_one(self, source: str, name: str) -> tuple[str, str]:
        ref = self._known(name)
        if source not in ref.sources:
            raise StalledError(
                f"secret {name!r} is not for source {source!r}",
                reason="SecretRefused",
                remedy=f"add {source!r} to its `sources` in the configuration",
            )
        return f"{source}/{name}@{ref.version}", await read_value(ref)

    def _known(self, name: str) -> SecretRef:
        if name not in self._refs:
            raise StalledError(
                f"secret {name!r} is not in the configuration",
                reason="SecretUnknown",
                remedy="define it under `secrets`",
            )
        return self._refs[name]


async def read_value(ref: SecretRef) -> str:
    """Return the secret's value; one trailing newline is not part of it."""
    if ref.env is not None:
        value = environment.get(ref.env)
        if value is None:
            raise unavailable(ref, f"environment variable {ref.env} is not set")
        return value
    if ref.file is not None:
        return await read_file(ref, Path(ref.file))
    return await run_command(ref, ref.command or ())


async def read_file(ref: SecretRef, path: Path) -> str:
    try:
        return (await asyncio.to_thread(path.read_text, encoding="utf-8")).removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise unavailable(ref, f"file {path}: {error}") from error


async def run_command(ref: SecretRef, argv: tuple[str, ...]) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # it may hold the value
            start_new_session=True,
        )
    except OSError as error:
        raise unavailable(ref, f"its command can't be started: {error}") from error
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise TransientError(
            f"secret {ref.name!r}: its command took over {COMMAND_TIMEOUT_SECONDS} s",
            reason="SecretUnavailable",
        ) from error
    if process.returncode != 0:
        raise unavailable(ref, f"its command ended with exit code {process.returncode}")
    return output.decode("utf-8", "replace").removesuffix("\n")


def unavailable(ref: SecretRef, problem: str) -> StalledError:
    return StalledError(
        f"secret {ref.name!r}: {problem}",
        reason="SecretUnavailable",
        remedy="set it, or correct the configuration",
    )
