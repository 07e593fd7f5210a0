"""What the check of one signature found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is "" for a good signature; `problem` goes on behind "commit 1234abcd"."""

    reason: str
    signer: str
    problem: str = ""


def printable(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)
