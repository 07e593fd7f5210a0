"""Whose commit it is: its signature, or its tag's, against the keys that a source allows."""

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

from controller.errors import UnverifiedError
from controller.model.settings import Verify
from controller.source import signed
from controller.source.allowed import Allowed, read_keys
from controller.source.gpg import gpg_verdict
from controller.source.objects import Objects
from controller.source.signed import Signed
from controller.source.ssh_signature import Check
from controller.source.verdict import Verdict, printable

SCRATCH = ".verify-"  # what the names of our folders begin with
REMEDIES = {
    "NoSignature": "sign it",
    "UnknownKey": "sign it with an allowed key, or add this one to `verify.keys`",
    "BadSignature": "find out who made it; sign anew",
    "SignatureUnsupported": "sign it with a GPG or SSH key",
    "KeyExpired": "renew the key, and put it into its file of `verify.keys`",
    "KeyRevoked": "sign anew with another key",
}


class Verifier:
    """Checks what a source's ref is at; a check of the same with the same keys is made once."""

    def __init__(self, settings: Verify, place: Path, memory: Path, where: str) -> None:
        self._settings = settings
        self._memory = memory  # a file: the tag that verified last, which no ref may hold later
        self._place = place  # a folder of ours, for the length of a check
        self._where = where
        self._last: tuple[tuple[str, str, str, str], str] | None = None

    async def signer(
        self, objects: Objects, commit: str, tag: tuple[str, str], *, late: bool = False
    ) -> str:
        """Return who signed: for `mode: HEAD` the commit, for Tag the tag, else both.

        `tag` is the ref's name and the object that it is at. With `late` a key may have expired
        since: what was applied while it was good stays good; and the tag is the one that verified
        last, as we remember it.

        Raises:
            UnverifiedError: nobody who may; reason as the condition's.
            TransientError: VerifyTimeout.
            GitError: the object can't be read.
        """
        allowed = read_keys(self._settings.keys)
        asked = (commit, *tag, allowed.digest)
        if self._last is not None and self._last[0] == asked and not late:
            return self._last[1]
        who, raw = [], b""
        if self._settings.mode != "HEAD":
            raw = await self._raw_tag(objects, commit, *tag, late=late)
            one = self._tag(raw, commit, tag[0])
            who.append(await self._checked(one, allowed, late=late))
        if self._settings.mode != "Tag":
            one = await self._commit(objects, commit)
            who.append(await self._checked(one, allowed, late=late))
        told = ", ".join(dict.fromkeys(who))
        if not late:
            if self._settings.mode != "HEAD":
                await asyncio.to_thread(self._remember, raw)
            self._last = (asked, told)
        return told

    async def _commit(self, objects: Objects, commit: str) -> Signed:
        raw = await objects.raw("commit", commit)
        if not signed.is_itself("commit", commit, raw):
            raise self._refused("BadSignature", f"commit {commit} is not what its id says")
        try:
            return signed.commit(commit, raw)
        except ValueError as error:
            raise self._refused("BadSignature", f"commit {commit} {error}") from error

    def _remember(self, raw: bytes) -> None:
        self._memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self._memory.with_suffix(".draft")
        draft.write_bytes(raw)
        draft.replace(self._memory)

    async def _raw_tag(
        self, objects: Objects, commit: str, name: str, identity: str, *, late: bool
    ) -> bytes:
        if late:
            return await asyncio.to_thread(self._memory.read_bytes)
        shown = f"tag {printable(name)}"
        if identity == commit:
            raise self._refused("NoSignature", f"{shown} is no annotated tag: nobody signed it")
        raw = await objects.raw("tag", identity)
        if not signed.is_itself("tag", identity, raw):
            raise self._refused("BadSignature", f"{shown} is not what its id says")
        return raw

    def _tag(self, raw: bytes, commit: str, name: str) -> Signed:
        """Return a tag's parts, when it is the tag of this name and commit."""
        shown = f"tag {printable(name)}"
        try:
            one = signed.tag(printable(name), raw)
        except ValueError as error:
            raise self._refused("BadSignature", f"{shown} {error}") from error
        head = signed.tag_head(one.payload)
        told = (head.get("type"), head.get("object"), head.get("tag"))
        if told != ("commit", commit, name):
            problem = f"{shown} holds what was signed as tag {printable(str(told[2]))} of {told[1]}"
            raise self._refused("BadSignature", printable(problem))
        return replace(one, what=f"{one.what} of commit {commit}")

    async def _checked(self, one: Signed, allowed: Allowed, *, late: bool) -> str:
        if not one.signature:
            raise self._refused("NoSignature", f"{one.what} is not signed")
        found = await self._verdict(one, allowed)
        if found.reason and not (late and found.reason == "KeyExpired"):
            raise self._refused(found.reason, f"{one.what} {found.problem}")
        return found.signer

    async def _verdict(self, one: Signed, allowed: Allowed) -> Verdict:
        self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=self._place) as folder:
            scratch = Path(folder)
            if one.kind == "gpg":
                return await gpg_verdict(allowed, one.payload, one.signature, scratch)
            if one.kind == "ssh":
                check = Check(allowed, one.payload, one.signature, scratch)
                return await check.verdict(one.made_at)
        if one.kind == "X.509":
            problem = "is signed by an X.509 certificate (gpgsm, gitsign), which isn't supported"
            return Verdict("SignatureUnsupported", "", problem)
        return Verdict("BadSignature", "", f"has a signature of a kind not checked: {one.kind}")

    def _refused(self, reason: str, problem: str) -> UnverifiedError:
        return UnverifiedError(problem, reason=reason, where=self._where, remedy=REMEDIES[reason])
