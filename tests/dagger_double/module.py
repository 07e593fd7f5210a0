"""A module's double: functions that are there once it is served, with folders behind them."""

from pathlib import Path
from typing import Any

from graphql import GraphQLError

from tests.dagger_double.containers import Thing

NAME = "report-module"
FAILED = {"_type": "EXEC_ERROR", "exitCode": 5, "stdout": "inside", "stderr": "err"}


class Module:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "module"
        self.served: str | None = None  # ref@commit
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def serve(self, source: str) -> None:
        if self.served not in {None, source}:
            problem = f"module {NAME} already exists with different source {self.served}"
            raise GraphQLError(problem)
        self.served = source

    def call(self, name: str, args: dict[str, Any]) -> Any:
        self.calls.append((name, args))
        (self.folder / "a").mkdir(parents=True, exist_ok=True)
        (self.folder / "a" / "b.txt").write_text("hello")
        match name:
            case "checkAll":
                return f"checked {args}"
            case "colour":
                return args["c"]
            case "numbers":
                return [1.5, 2]
            case "files":
                return Thing("Directory", (("taken", {"from": str(self.folder)}),))
            case "one":
                return Thing("File", (("taken", {"from": str(self.folder / "a" / "b.txt")}),))
            case "fail":
                raise GraphQLError("exit code: 5", extensions=FAILED)
        return None


def below(directory: Thing, path: str) -> Path:
    """Return the place of a path in what a module gave."""
    ((_, args),) = directory.calls
    return Path(args["from"]) / path
