"""Programs other than git that a signature is checked with."""

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.errors import TransientError, UnverifiedError
from controller.source.processes import clean, said, spawned

SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, and what it printed."""

    code: int
    output: str
    errors: str

    @property
    def last_words(self) -> str:
        lines = [line.strip() for line in (self.errors or self.output).split("\n")]
        return next((line for line in reversed(lines) if line), f"exit {self.code}")


async def ran(
    program: str, words: Sequence[str], *, env: Mapping[str, str], data: bytes | None = None
) -> Ended:
    """Run a program to its end, with nothing of our environment but PATH and certificates.

    Raises:
        UnverifiedError: ProgramMissing, it isn't installed.
        TransientError: VerifyTimeout.
    """
    path = shutil.which(program)
    if path is None:
        raise UnverifiedError(
            f"{program} is not installed",
            reason="ProgramMissing",
            remedy=f"install {PACKAGES[program]}, which checks such signatures",
        )
    stdin = asyncio.subprocess.DEVNULL if data is None else asyncio.subprocess.PIPE
    try:
        async with (
            asyncio.timeout(SECONDS),
            spawned((path, *words), env=clean(env), stdin=stdin) as process,
        ):
            output, errors = await said(process, data)
    except TimeoutError:
        raise TransientError(f"{program} took over {SECONDS:g} s", reason="VerifyTimeout") from None
    code = process.returncode or 0
    return Ended(code, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace"))


PACKAGES = {"gpg": "GnuPG", "ssh-keygen": "OpenSSH's client"}
