"""One measured figure beside its floor, and how a table of them is written."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

HEAD = ("operation", "figure", "Rondel", "floor", "ratio", "wall s", "CPU s", "target", "reach")


@dataclass(frozen=True, kw_only=True)
class Row:
    """`rondel` and `floor` are in `unit`; `wall` and `cpu` are seconds of Rondel's whole part."""

    operation: str
    figure: str
    rondel: float
    unit: str
    floor: float | None = None
    floor_is: str = ""
    wall: float
    cpu: float
    target: str = "-"  # of BENCH: what the design aims at
    reach: str = "-"  # what the project promised for this version

    @property
    def ratio(self) -> float | None:
        """Rondel by floor; a rate is a ratio the other way round, so that more is better."""
        return None if not self.floor else self.rondel / self.floor

    def cells(self) -> tuple[str, ...]:
        floor = f"{number(self.floor)} {self.unit}" if self.floor is not None else "-"
        return (
            self.operation,
            self.figure,
            f"{number(self.rondel)} {self.unit}",
            f"{floor} ({self.floor_is})" if self.floor_is else floor,
            f"{self.ratio:.2f}x" if self.ratio is not None else "-",
            f"{self.wall:.2f}",
            f"{self.cpu:.2f}",
            self.target,
            self.reach,
        )


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [HEAD, tuple("---" for _ in HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def at(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


__all__ = ["Row", "at", "median", "table"]
