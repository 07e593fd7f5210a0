"""SSH signatures: checked by ssh-keygen against a list of allowed signers."""

import re
from datetime import UTC, datetime
from pathlib import Path

from controller.source.allowed import Allowed
from controller.source.programs import Ended, ran
from controller.source.verdict import Verdict, printable

KEY = re.compile(r'Good "git" signature .*with (\S+ key SHA256:[A-Za-z0-9+/=]+)\s*\Z')
ENVIRONMENT = {"TZ": "UTC"}
LAST_SECOND = 253402300799  # of the year 9999


class Check:
    """One signature of one payload, in an empty folder of ours."""

    def __init__(self, allowed: Allowed, payload: bytes, signature: bytes, scratch: Path) -> None:
        self._payload = payload
        self._signature = scratch / "signature"
        self._signers = scratch / "signers"
        self._signature.write_bytes(signature + b"\n")
        self._signers.write_text(allowed.signers)
        self._revoked = []
        for number, content in enumerate(allowed.revoked):
            self._revoked.append(scratch / f"revoked-{number}")
            self._revoked[-1].write_bytes(content)

    async def verdict(self, made_at: int) -> Verdict:
        """Return whose it is.

        Raises:
            UnverifiedError: ProgramMissing.
            TransientError: VerifyTimeout.
        """
        plain = await self._asked("check-novalidate", data=self._payload)
        found = KEY.search(plain.output)
        if plain.code != 0 or found is None:
            problem = f"has a signature that isn't one of it: {printable(plain.last_words)}"
            return Verdict("BadSignature", "", problem)
        key = found[1]
        principal = await self._principal()
        if principal is not None:
            who = f"{principal} ({key})"
            if await self._is_revoked(principal):
                return Verdict("KeyRevoked", who, f"is signed by {who}, whose key is revoked")
            return Verdict("", who)
        at = datetime.fromtimestamp(min(made_at, LAST_SECOND), UTC).strftime("%Y%m%d%H%M%S")
        earlier = await self._principal(f"-Overify-time={at}")
        if earlier is not None:
            who = f"{earlier} ({key})"
            if await self._is_revoked(earlier, f"-Overify-time={at}"):
                return Verdict("KeyRevoked", who, f"is signed by {who}, whose key is revoked")
            problem = f"is signed by {who}, whose key is not valid now"
            return Verdict("KeyExpired", who, problem)
        return Verdict("UnknownKey", key, f"is signed by {key}, which is none of `verify.keys`")

    async def _principal(self, *options: str) -> str | None:
        """Return under which name the key may sign, if it may."""
        told = await self._asked("find-principals", "-f", str(self._signers), *options)
        if told.code != 0:
            return None
        for principal in told.output.split("\n"):
            if principal and (await self._verified(principal, *options)):
                return printable(principal)
        return None

    async def _verified(self, principal: str, *options: str) -> bool:
        words = ("-f", str(self._signers), "-I", principal, *options)
        return (await self._asked("verify", *words, data=self._payload)).code == 0

    async def _is_revoked(self, principal: str, *options: str) -> bool:
        for file in self._revoked:
            if not await self._verified(principal, "-r", str(file), *options):
                return True
        return False

    async def _asked(self, command: str, *words: str, data: bytes | None = None) -> Ended:
        namespace = () if command == "find-principals" else ("-n", "git")
        all_words = ("-Y", command, *namespace, "-s", str(self._signature), *words)
        return await ran("ssh-keygen", all_words, env=ENVIRONMENT, data=data)
