"""Finds why a re-run may differ from its record: everything that differs between the two, the likeliest cause first."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from experiments.code.differences import CodeDifference, code_differences
from experiments.config import NOT_COMPARED
from experiments.provenance.origins import Field, OriginKind, edited_files, is_told_by_some, origins, unrecorded

# Kinds of cause that often differ without any effect on the numbers.
_HARMLESS_KINDS: set[OriginKind] = {"package", "hardware", "environment", "unrecorded"}
_KIND_OF_PARAM: dict[str, OriginKind] = {"seed": "seed", "data.split_seed": "seed", "trainer.threads": "threads"}
_SHOWN_LINES = 4

Key = TypeVar("Key", str, Field)


@dataclass(frozen=True)
class Cause:
    """One thing that differs between a run and its re-run."""

    kind: OriginKind
    detail: str
    is_idle: bool = False  # code that the run does not execute: a comment, or a file that it does not load

    @property
    def is_harmless(self) -> bool:
        """Whether it often differs without any effect on the numbers."""
        return self.is_idle or self.kind in _HARMLESS_KINDS

    def as_dict(self) -> dict[str, str]:
        return {"kind": self.kind, "detail": self.detail}


@dataclass(frozen=True)
class Origins:
    """All inputs that determine a run's numbers."""

    params: Mapping[str, str]  # its config, as MLflow holds it
    provenance: Mapping[str, Any]
    code: Path  # the folder that its code was run from


def causes(recorded: Origins, now: Origins) -> list[Cause]:
    """Returns what differs, in the order of `OriginKind`. Code that does not run and files not recorded come last."""
    order = get_args(OriginKind)
    return sorted(_all(recorded, now), key=lambda cause: (cause.is_idle, order.index(cause.kind)))


def _all(recorded: Origins, now: Origins) -> Iterator[Cause]:
    if recorded.code != now.code:
        yield from _in_code(recorded, now)
    for name, value, again in _differing(recorded.params, now.params):
        if name not in NOT_COMPARED:
            yield Cause(_KIND_OF_PARAM.get(name, "config"), f"{name}: {value}, now {again}")
    before, after = origins(recorded.provenance), origins(now.provenance)
    for field, value, again in _differing(before, after):
        if (field in before and field in after) or not is_told_by_some(field):
            yield Cause(field[0], _detail(field, value, again))
    for detail in unrecorded(recorded.provenance):
        yield Cause("unrecorded", detail)


def _in_code(recorded: Origins, now: Origins) -> Iterator[Cause]:
    loaded = {name for run in (recorded, now) for name in run.provenance.get("code", {}).get("loaded", ())}
    for difference in code_differences([recorded.code, now.code]):
        if loaded and difference.file not in loaded:
            yield Cause("code", f"{_hunk(difference)} (a file that the run does not load)", is_idle=True)
        elif _is_same_syntax(recorded.code / difference.file, now.code / difference.file):
            yield Cause("code", f"{_hunk(difference)} (comments alone)", is_idle=True)
        else:
            yield Cause("code", _hunk(difference))


def _is_same_syntax(before: Path, after: Path) -> bool:
    """Whether two Python files differ in comments, docstrings and layout alone."""
    try:
        return before.suffix == ".py" and _syntax(before) == _syntax(after)
    except (OSError, SyntaxError, ValueError):
        return False


def _syntax(path: Path) -> str:
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            del node.body[0]
    return ast.dump(tree)


def _differing(before: Mapping[Key, Any], after: Mapping[Key, Any]) -> Iterator[tuple[Key, Any, Any]]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)


def _detail(field: Field, value: Any, again: Any) -> str:
    kind, name = field
    if kind == "data":
        return f"data bytes: SHA-256 {value[:12]}…, now {again[:12]}…"
    if kind == "unrecorded":
        return f"{name}: not in the record, and another file now" if value and again else f"{name}: not used by both"
    if name == "cpu_flags":
        gone, new = set(value.split()) - set(again.split()), set(again.split()) - set(value.split())
        return f"CPU flags: {sorted(gone)} are gone, {sorted(new)} are new"
    if kind == "package" and is_told_by_some(field):
        edited, edited_now = set(value[0]), set(again[0])
        if edited == edited_now:
            return f"{name}: other bytes ({edited_files(edited)})"
        return f"{name}: {edited_files(edited - edited_now)}, now {edited_files(edited_now - edited)}"
    if kind == "package":
        before, after = (package[0] if package else "not installed" for package in (value, again))
        return f"{name} {before}" + (f", now {after}" if before != after else ": the same version with different files")
    return f"{name}: {value}, now {again}"


def _hunk(difference: CodeDifference) -> str:
    """Returns `file:line: -old +new`, with the line of the new file."""
    before, after = difference.copies
    if before is None or after is None:
        return f"{difference.file}: {'new file' if before is None else 'no longer exists'}"
    lines = [f"-{line.strip()}" for line in before.text] + [f"+{line.strip()}" for line in after.text]
    shown = " ".join(lines[:_SHOWN_LINES]) + (" …" if len(lines) > _SHOWN_LINES else "")
    return f"{difference.file}:{after.first}: {shown}"
