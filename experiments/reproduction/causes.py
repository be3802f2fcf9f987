"""Finds why a re-run may differ from its record: everything that differs between the two, the likeliest cause first."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from experiments.provenance.code_differences import CodeDifference, code_differences
from experiments.provenance.origins import LOCATIONS, Field, OriginKind, origins, unrecorded

# Kinds of cause that often differ without any effect on the numbers.
HARMLESS_KINDS: set[OriginKind] = {"package", "hardware", "environment", "unrecorded"}
_KIND_OF_PARAM: dict[str, OriginKind] = {"seed": "seed", "data.split_seed": "seed", "trainer.threads": "threads"}
_SHOWN_LINES = 4

Key = TypeVar("Key", str, Field)


@dataclass(frozen=True)
class Cause:
    """One thing that differs between a run and its re-run."""

    kind: OriginKind
    detail: str


@dataclass(frozen=True)
class Origins:
    """All inputs that determine a run's numbers."""

    params: Mapping[str, str]  # its config, as MLflow holds it
    provenance: Mapping[str, Any]
    code: Path  # the folder that its code was run from
    edited: Collection[str] = ()  # fields of its config.yaml that were changed after the run


def causes(recorded: Origins, now: Origins) -> list[Cause]:
    """Returns what differs, in the order of `OriginKind`; files that the record lacks are the last suspects."""
    order = get_args(OriginKind)
    return sorted(_all(recorded, now), key=lambda cause: order.index(cause.kind))


def _all(recorded: Origins, now: Origins) -> Iterator[Cause]:
    if recorded.code != now.code:
        yield from (Cause("code", _hunk(difference)) for difference in code_differences([recorded.code, now.code]))
    for name, value, again in _differing(recorded.params, now.params):
        if name not in LOCATIONS:
            why = " (its config.yaml was edited after the run)" if name in recorded.edited else ""
            yield Cause(_KIND_OF_PARAM.get(name, "config"), f"{name}: {value}, now {again}{why}")
    for field, value, again in _differing(origins(recorded.provenance), origins(now.provenance)):
        yield Cause(field[0], _detail(field, value, again))
    for detail in unrecorded(recorded.provenance):
        yield Cause("unrecorded", detail)


def _differing(before: Mapping[Key, Any], after: Mapping[Key, Any]) -> Iterator[tuple[Key, Any, Any]]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)


def _detail(field: Field, value: Any, again: Any) -> str:
    kind, name = field
    if kind == "data":
        return f"data bytes: SHA-256 {value[:12]}…, now {again[:12]}…"
    if name == "cpu_flags":
        gone, new = set(value.split()) - set(again.split()), set(again.split()) - set(value.split())
        return f"CPU flags: {sorted(gone)} are gone, {sorted(new)} are new"
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
