"""The services beside a step, as far as both executors say the same of them."""

from controller.errors import StalledError
from controller.execute.ports import Output

READY_SECONDS = 60.0  # for a service to listen; the step's own timeout may be shorter
ENDED = "ServiceEnded"
NOT_READY = "ServiceNotReady"
LONGEST = 64 * 1024  # bytes of a line that is kept back until it is whole
TAIL = 1000  # bytes of its last words that an error quotes


class WholeLines:
    """An Output that hands on whole lines: what several processes say never shares one.

    What a service says becomes standard error, each line behind its name.
    """

    def __init__(self, output: Output, service: str | None = None) -> None:
        self._output = output
        self._service = service
        self._mark = f"[{service}] ".encode() if service else b""
        self._rest: dict[str, bytes] = {}
        self._tail = b""

    def write(self, stream: str, data: bytes) -> None:
        whole, newline, rest = (self._rest.get(stream, b"") + data).rpartition(b"\n")
        self._rest[stream] = rest
        if newline:
            self._hand_on(stream, whole.split(b"\n"))
        if len(rest) >= LONGEST:
            self._flush(stream)

    def note(self, text: str) -> None:
        self._output.note(text)

    def flush(self) -> None:
        """Hand on what is left of unfinished lines."""
        for stream in self._rest:
            self._flush(stream)

    def last_words(self) -> str:
        """Return the end of what was said, whole lines."""
        return self._tail.decode("utf-8", "replace").strip()

    def _flush(self, stream: str) -> None:
        rest, self._rest[stream] = self._rest[stream], b""
        if rest:
            self._hand_on(stream, [rest])

    def _hand_on(self, stream: str, lines: list[bytes]) -> None:
        text = b"".join(self._mark + line + b"\n" for line in lines)
        self._tail = (self._tail + text)[-TAIL:]
        self._output.write("stderr" if self._service else stream, text)


def not_ready(name: str, problem: str, said: str) -> StalledError:
    """Return the error of an attempt whose service didn't come up."""
    words = f"; its last words:\n{said}" if said else "; it said nothing"
    return StalledError(
        f"{problem}{words}",
        where=f"service {name!r}",
        reason=NOT_READY,
    )


def never_listened(port: int) -> str:
    return f"nothing listens on its port {port} after {READY_SECONDS:.0f} s"


def ended_early(code: int) -> str:
    return f"it ended with exit code {code} before it was ready"
