"""A table of recorded trials: one JSON object a line, compressed once it is complete."""

import json
import lzma
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

TABLES = Path(__file__).parent / "tables"
LAST = 1 - 1e-6  # the largest coordinate of a point in the unit cube, whose upper edge is no point


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trial. `place`: its point in the unit cube, one coordinate per parameter of the space."""

    trial: int  # counted from 0
    design: str  # sobol: of the scrambled sequence; near: beside a good point; again: an earlier point, another seed
    point: int  # the trial that was the first with this point
    place: list[float]
    params: dict[str, Any]
    seed: int
    accuracy: list[float]  # on val, after each epoch; ends early if the loss was not finite any more
    loss: list[float | None]  # on val; None: not finite
    seconds: float

    @classmethod
    def read(cls, line: str) -> Self:
        return cls(**json.loads(line))

    def write(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"


class Recording:
    """A file of rows that grows. A last line that was cut off is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows = read_table(path) if path.exists() else []
        path.write_text("".join(row.write() for row in self.rows))

    def add(self, row: Row) -> None:
        self.rows.append(row)
        with self._path.open("a") as file:
            file.write(row.write())


def pack(rows: Sequence[Row], path: Path) -> None:
    """Writes a complete table."""
    beside = path.with_suffix(".new")
    with lzma.open(beside, "wt", preset=9) as file:
        file.writelines(row.write() for row in rows)
    beside.replace(path)


def read_table(path: Path) -> list[Row]:
    """Reads a table, packed or still growing."""
    if path.suffix == ".xz":
        with lzma.open(path, "rt") as file:
            return [Row.read(line) for line in file]
    return [Row.read(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
