"""GPG signatures: checked by gpg with a keyring of its own that lives as long as the check."""

from pathlib import Path
from urllib.parse import unquote

from controller.errors import UnverifiedError
from controller.source.allowed import REMEDY, Allowed
from controller.source.programs import ran
from controller.source.verdict import Verdict, printable

OPTIONS = (
    *("--batch", "--no-tty", "--no-options", "--no-autostart", "--disable-dirmngr"),
    *("--no-auto-key-retrieve", "--trust-model=always", "--weak-digest=SHA1", "--status-fd=1"),
)
STATUS = "[GNUPG:] "
NO_KEY = "9"  # gpg's reason why it could not check
FAULTS = (  # gpg's word -> reason, in words
    ("BADSIG", "BadSignature", "is not what {} signed"),
    ("REVKEYSIG", "KeyRevoked", "is signed by {}, whose key is revoked"),
    ("EXPKEYSIG", "KeyExpired", "is signed by {}, whose key has expired"),
    ("EXPSIG", "KeyExpired", "is signed by {}, whose signature has expired"),
)


async def gpg_verdict(allowed: Allowed, payload: bytes, signature: bytes, scratch: Path) -> Verdict:
    """Check a detached signature; `scratch` is an empty folder of ours.

    Raises:
        UnverifiedError: ProgramMissing, KeysUnreadable.
        TransientError: VerifyTimeout.
    """
    home = scratch / "gpg"
    home.mkdir(mode=0o700)
    env = {"GNUPGHOME": str(home)}
    for number, key in enumerate(allowed.gpg):
        file = scratch / f"key-{number}.asc"
        file.write_bytes(key)
        told = await ran("gpg", (*OPTIONS, "--import", str(file)), env=env)
        if f"{STATUS}IMPORT_OK" not in told.output:
            raise UnverifiedError(
                f"gpg reads no key of key file {number + 1}: {printable(told.last_words)}",
                reason="KeysUnreadable",
                remedy=REMEDY,
            )
    (scratch / "signature").write_bytes(signature)
    words = ("--verify", "--", str(scratch / "signature"), "-")
    return judged((await ran("gpg", (*OPTIONS, *words), env=env, data=payload)).output)


def judged(status: str) -> Verdict:
    """Return what gpg's status lines say; text of the author stands in none but as an argument."""
    said: dict[str, list[list[str]]] = {}
    for line in status.split("\n"):
        if line.startswith(STATUS):
            word, *rest = line.removeprefix(STATUS).split(" ")
            said.setdefault(word, []).append(rest)
    count = len(said.get("NEWSIG", ()))
    if count != 1:
        what = f"{count} signatures in one" if count else "a signature that can't be read"
        return Verdict("BadSignature", "", f"has {what}")
    for word, reason, problem in FAULTS:
        if word in said:
            who = signer(said[word][0], said)
            return Verdict(reason, who, problem.format(who))
    if "ERRSIG" in said:
        return not_checked(said["ERRSIG"][0])
    if len(said.get("GOODSIG", ())) == len(said.get("VALIDSIG", ())) == 1:
        return Verdict("", signer(said["GOODSIG"][0], said))
    return Verdict("BadSignature", "", "has a signature that gpg doesn't call good")


def not_checked(fields: list[str]) -> Verdict:
    """Return what ERRSIG says: key id, algorithms, class, time, reason, fingerprint."""
    identity, _, _, _, _, why, *rest = (*fields, "", "", "", "", "", "")
    known = rest[0] if rest and rest[0] not in {"", "-"} else identity
    who = f"key {printable(known)}"
    if why == NO_KEY:
        return Verdict("UnknownKey", who, f"is signed by {who}, which is none of `verify.keys`")
    return Verdict("BadSignature", who, f"has a signature of {who} that can't be checked")


def signer(fields: list[str], said: dict[str, list[list[str]]]) -> str:
    """Return the user id and the key, as the keyring has them."""
    identity, *words = fields or [""]
    valid = said.get("VALIDSIG", [[identity]])[0]
    name = unquote(" ".join(words), errors="replace")
    return printable(f"{name} (key {valid[0]})")
