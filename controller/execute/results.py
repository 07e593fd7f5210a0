"""What a step left: files read as declared outputs."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from controller.model.workflow import UNSET, Json, Output, OutputType, Step

LARGEST_OUTPUT = 1 << 20  # bytes


class OutputError(ValueError):
    """An output that is missing or not of its type; `reason` is the step's."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def wanted(step: Step) -> dict[str, str]:
    """Return what an executor shall collect: paths at the working directory."""
    paths = [*(one.path for one in step.outputs), *(one.path for one in step.artifacts)]
    return {path: path for path in paths}


def read_outputs(
    step: Step, collected: Mapping[str, Path]
) -> tuple[dict[str, Json], OutputError | None]:
    """Return the value of each declared output that can be read, and the first problem."""
    found, problems = {}, []
    for one in step.outputs:
        try:
            found[one.name] = read_output(one, collected.get(one.path))
        except OutputError as error:
            problems.append(error)
    return found, next(iter(problems), None)


def missing_artifact(step: Step, collected: Mapping[str, Path]) -> OutputError | None:
    for one in step.artifacts:
        if one.path not in collected:
            return OutputError("OutputMissing", f"artifact {one.name!r}: nothing at {one.path}")
    return None


def read_output(output: Output, path: Path | None) -> Json:
    if path is None or not path.is_file():
        if output.default is UNSET:
            raise OutputError("OutputMissing", f"output {output.name!r}: no file {output.path}")
        return output.default
    if path.stat().st_size > LARGEST_OUTPUT:
        problem = f"output {output.name!r}: {output.path} is over 1 MiB; make it an artifact"
        raise OutputError("OutputTooLarge", problem)
    text = path.read_text("utf-8", errors="replace").rstrip("\n")
    try:
        return READERS[output.type](text)
    except (ValueError, RecursionError) as error:
        shown = text if len(text) <= 40 else text[:40] + "..."  # noqa: PLR2004 - one line of it
        problem = f"output {output.name!r}: {shown!r} is not of type {output.type}"
        raise OutputError("OutputInvalid", problem) from error


def boolean(text: str) -> bool:
    words = {"true": True, "false": False}
    if text.strip() not in words:
        raise ValueError(text)
    return words[text.strip()]


def integer(text: str) -> int:
    """As manifests have them: 64 bits, no underscores, no other alphabets' digits."""
    if not INTEGER.match(text.strip()) or not -(1 << 63) <= int(text) < 1 << 63:
        raise ValueError(text)
    return int(text)


def number(text: str) -> Json:
    value = json_value(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(text)  # noqa: TRY004 - of the text, not of an argument
    return value


def json_value(text: str) -> Json:
    """JSON as its standard has it: no NaN, no Infinity, no half of a surrogate pair."""
    value = json.loads(text, parse_constant=refused)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


def refused(text: str) -> Json:
    raise ValueError(text)


INTEGER = re.compile(r"[+-]?[0-9]{1,19}\Z")
READERS: dict[OutputType, Callable[[str], Json]] = {
    OutputType.STRING: str,
    OutputType.INTEGER: integer,
    OutputType.NUMBER: number,
    OutputType.BOOLEAN: boolean,
    OutputType.JSON: json_value,
}
