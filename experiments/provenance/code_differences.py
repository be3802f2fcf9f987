"""Where copies of the project's code differ: places in files, with the lines that each copy has there."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_CODE = {".py", ".yaml", ".toml"}
_NO_CODE = {".git", ".venv", "tests", "benchmarks", "docs"}
_Block = tuple[int, int, int]  # lines that are equal: where they begin in the one file, in the other, and how many


@dataclass(frozen=True)
class Lines:
    """What one copy has at a place. `first` counts from 1; where `text` is empty, the lines would begin there."""

    first: int
    text: tuple[str, ...]


@dataclass(frozen=True)
class CodeDifference:
    """One place in a file; or a whole file, where some copies have it and others do not."""

    file: str
    copies: tuple[Lines | None, ...]  # one a folder, in their order; None where there is no such file


def code_differences(folders: Sequence[Path]) -> Iterator[CodeDifference]:
    """Every place where not all folders hold the same code, Python files first."""
    names = {name for folder in folders for name in _files(folder)}
    for name in sorted(names, key=lambda name: (not name.endswith(".py"), name)):
        paths = [folder / name for folder in folders]
        contents = [path.read_bytes() if path.exists() else None for path in paths]
        if None in contents:
            yield CodeDifference(name, tuple(None if content is None else Lines(1, ()) for content in contents))
        elif len(set(contents)) > 1:
            yield from _places(name, [path.read_text(encoding="utf-8", errors="replace") for path in paths])


def _places(name: str, texts: Sequence[str]) -> Iterator[CodeDifference]:
    """The places in a file that all have, as they lie in its first copy; those that overlap there are one."""
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
    """The ranges of lines of the first file between blocks that are equal in both."""
    for (start, again, size), (next_start, next_again, _) in pairwise(blocks):
        if (start + size, again + size) != (next_start, next_again):
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
    """Where a line of the first file may stand in the other: twice, before and after what is new right there."""
    return (again + line - start for start, again, size in blocks if start <= line <= start + size)


def _files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.suffix in _CODE and path.is_file() and not _NO_CODE & set(path.relative_to(folder).parts)
    }
