"""Keeps the pairs of a row while it is measured, so that a benchmark that was cut off goes on where it was."""

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Result

_FILE = "unfinished.json"

Pair = tuple[Result, Result]  # ours, theirs


@dataclass(frozen=True)
class Unfinished:
    """The pairs of one row, in a file of `folder`. `row`: what tells it from others: its name, size and machine."""

    folder: Path
    row: str

    @property
    def pairs(self) -> list[Pair]:
        return [(ours, theirs) for ours, theirs in self._all().get(self.row, [])]

    def add(self, pair: Pair) -> None:
        self._write({**self._all(), self.row: [*self.pairs, pair]})

    def forget(self) -> None:
        """Removes the row, once it is complete; and the file with the last one."""
        self._write({row: pairs for row, pairs in self._all().items() if row != self.row})

    def _all(self) -> dict[str, list[Pair]]:
        path = self.folder / _FILE
        rows: dict[str, list[Pair]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return rows

    def _write(self, rows: dict[str, list[Pair]]) -> None:
        path = self.folder / _FILE
        if not rows:
            path.unlink(missing_ok=True)
            return
        new = path.with_suffix(".new")
        new.write_text(json.dumps(rows), encoding="utf-8")
        new.replace(path)
