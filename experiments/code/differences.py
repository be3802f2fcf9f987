"""Finds the places where copies of the project's code differ, with the lines that each copy has there."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_CODE = {".py", ".yaml", ".toml"}
_SKIPPED = {".git", ".venv", "tests", "benchmarks", "docs"}
_Block = tuple[int, int, int]  # equal lines: their start in the first file and in the other, and their number


@dataclass(frozen=True)
class Lines:
    """The lines of one copy at a place. `first` counts from 1; if `text` is empty, the lines would begin there."""

    first: int
    text: tuple[str, ...]


@dataclass(frozen=True)
class CodeDifference:
    """A place in a file where copies differ, or a whole file that some copies lack."""

    file: str
    copies: tuple[Lines | None, ...]  # one per folder, in their order; None if the folder lacks the file


def code_differences(folders: Sequence[Path]) -> Iterator[CodeDifference]:
    """Yields every place where the folders do not all hold the same code, Python files first."""
    names = {name for folder in folders for name in _files(folder)}
    for name in sorted(names, key=lambda name: (not name.endswith(".py"), name)):
        paths = [folder / name for folder in folders]
        contents = [path.read_bytes() if path.exists() else None for path in paths]
        if None in contents:
            yield CodeDifference(name, tuple(None if content is None else Lines(1, ()) for content in contents))
        elif len(set(contents)) > 1:
            yield from _places(name, [path.read_text(encoding="utf-8", errors="replace") for path in paths])


def _places(name: str, texts: Sequence[str]) -> Iterator[CodeDifference]:
    """Yields the places where the texts of a file differ; places that overlap in the first text are merged."""
    copies = [text.splitlines() for text in texts]
    blocks = [_equal_blocks(copies[0], copy) for copy in copies]
    for start, end in _merged(sorted(gap for each in blocks for gap in _gaps(each))):
        places = []
        for copy, equal in zip(copies, blocks, strict=True):
            first, last = min(_positions(start, equal)), max(_positions(end, equal))
            places.append(Lines(first + 1, tuple(copy[first:last])))
        yield CodeDifference(name, tuple(places))


def _equal_blocks(reference: list[str], other: list[str]) -> list[_Block]:
    found = difflib.SequenceMatcher(None, reference, other, autojunk=False).get_matching_blocks()
    return [(0, 0, 0), *found]


def _gaps(blocks: Sequence[_Block]) -> Iterator[tuple[int, int]]:
    """Yields the ranges of lines of the first file that lie between two equal blocks."""
    for (start, other, size), (next_start, next_other, _) in pairwise(blocks):
        if (start + size, other + size) != (next_start, next_other):
            yield start + size, next_start


def _merged(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in ranges:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _positions(line: int, blocks: Sequence[_Block]) -> Iterator[int]:
    """Yields the positions of the first file's line in the other: two, if the other file adds lines right there."""
    return (other + line - start for start, other, size in blocks if start <= line <= start + size)


def _files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.suffix in _CODE and path.is_file() and not _SKIPPED & set(path.relative_to(folder).parts)
    }
