"""Words to one message: a word as it is, a burst counted and named."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from controller.model.word import Occasion, Word

NAMED = 20
"""How many words of a burst are named."""

LONGEST = 2_000
"""Letters of one word's text; what is longer is for `rondel describe run`."""

BAD = frozenset({Occasion.FAILED, Occasion.ERROR, Occasion.STALLED})


class Message(NamedTuple):
    title: str
    body: str
    kind: str  # info, success, warning, failure


def message(words: Sequence[Word]) -> Message:
    """Return what is sent for these words, of which there is one at least."""
    if len(words) == 1:
        [word] = words
        title = f"{word.occasion}: {word.subject}"
        return Message(title, cut(word.text, LONGEST) or title, kind(words))  # none goes without
    counts = Counter(word.occasion for word in words)
    told = ", ".join(f"{count} {occasion}" for occasion, count in sorted(counts.items()))
    lines = [line(word) for word in words[:NAMED]]
    if len(words) > NAMED:
        lines.append(f"and {len(words) - NAMED} more: rondel get events")
    return Message(f"{len(words)} alerts: {told}", "\n".join(lines), kind(words))


def line(word: Word) -> str:
    first = word.text.split("\n", 1)[0]
    return f"{word.occasion}: {word.subject}: {cut(first, 200)}"


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def kind(words: Sequence[Word]) -> str:
    """Return the gravest of them, as apprise names it."""
    occasions = {word.occasion for word in words}
    if occasions & BAD:
        return "failure"
    if Occasion.MISSED in occasions:
        return "warning"
    return "success" if occasions == {Occasion.RECOVERED} else "info"
