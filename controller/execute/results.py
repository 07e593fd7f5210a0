"""What a step left: files read as declared outputs."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from controller.model.workflow import UNSET, Json, Output, OutputType, Step

LARGEST_OUTPUT = 1 << 20  # bytes


class OutputError(ValueError):
    """An output that is missing or not of its type; `reason` is the step's."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def output_key(name: str) -> str:
    return f"output:{name}"


def artifact_key(name: str) -> str:
    return f"artifact:{name}"


def wanted(step: Step) -> dict[str, str]:
    """Return what an executor shall collect: key -> path at the working directory."""
    outputs = {output_key(one.name): one.path for one in step.outputs}
    return outputs | {artifact_key(one.name): one.path for one in step.artifacts}


def read_outputs(step: Step, collected: Mapping[str, Path]) -> dict[str, Json]:
    """Return the value of each declared output.

    Raises:
        OutputError: OutputMissing, OutputInvalid, OutputTooLarge; the first that applies.
    """
    return {one.name: read_output(one, collected.get(output_key(one.name))) for one in step.outputs}


def written_outputs(step: Step, collected: Mapping[str, Path]) -> dict[str, Json]:
    """Return the outputs that a failed step did write, as far as they can be read."""
    found = {}
    for one in step.outputs:
        path = collected.get(output_key(one.name))
        if path is None:
            continue
        try:
            found[one.name] = read_output(one, path)
        except OutputError:
            continue  # the step has failed already, and for another reason
    return found


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
    except ValueError as error:
        shown = text if len(text) <= 40 else text[:40] + "..."  # noqa: PLR2004 - one line of it
        problem = f"output {output.name!r}: {shown!r} is not of type {output.type}"
        raise OutputError("OutputInvalid", problem) from error


def boolean(text: str) -> bool:
    words = {"true": True, "false": False}
    if text.strip() not in words:
        raise ValueError(text)
    return words[text.strip()]


READERS: dict[OutputType, Callable[[str], Json]] = {
    OutputType.STRING: str,
    OutputType.INTEGER: int,
    OutputType.NUMBER: float,
    OutputType.BOOLEAN: boolean,
    OutputType.JSON: json.loads,
}
