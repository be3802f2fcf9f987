"""Why a re-run may differ from its record: everything that differs between the two, what explains most first."""

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from experiments.config import LOCATIONS

Kind = Literal[
    "data", "code", "config", "seed", "threads", "package", "hardware", "environment", "nondeterminism", "unrecorded"
]

# What often differs without any effect on the numbers.
IDLE_KINDS: set[Kind] = {"package", "hardware", "environment", "unrecorded"}
_KIND_OF_FIELD: dict[str, Kind] = {"seed": "seed", "data.split_seed": "seed", "trainer.threads": "threads"}
_KIND_OF_STATE: dict[str, Kind] = {"interop_threads": "threads", "cpu_capability": "hardware", "gpus": "hardware"}
_CODE, _SHOWN_LINES = {".py", ".yaml", ".toml"}, 4
_NO_CODE = {".git", ".venv", "tests", "benchmarks", "docs"}
_UNTOLD = {"host", "memory_bytes", "cores"}  # of a machine: they do not change numbers


@dataclass(frozen=True)
class Cause:
    """One thing that differs between a run and its re-run."""

    kind: Kind
    detail: str


@dataclass(frozen=True)
class Origins:
    """All that a run's numbers come from."""

    params: Mapping[str, str]  # its config, as MLflow holds it
    provenance: Mapping[str, Any]
    code: Path  # the folder that its code was run from
    edited: Collection[str] = ()  # fields of its config.yaml that are no longer what it was run with


def causes(recorded: Origins, now: Origins) -> list[Cause]:
    """What differs, in the order of `Kind`."""
    order = get_args(Kind)
    return sorted(_all(recorded, now), key=lambda cause: order.index(cause.kind))


def _all(recorded: Origins, now: Origins) -> Iterator[Cause]:
    before, after = recorded.provenance, now.provenance
    if before["data_sha256"] != after["data_sha256"]:
        yield Cause("data", f"data bytes: SHA-256 {before['data_sha256'][:12]}…, now {after['data_sha256'][:12]}…")
    yield from _code(recorded, now)
    for name, value, again in _differing(recorded.params, now.params):
        if name not in LOCATIONS:
            why = " (its config.yaml was edited after the run)" if name in recorded.edited else ""
            yield Cause(_KIND_OF_FIELD.get(name, "config"), f"{name}: {value}, now {again}{why}")
    yield from _packages(before["packages"], after["packages"])
    for name, value, again in _differing(before["torch"], after["torch"]):
        if name != "version" and _KIND_OF_FIELD.get(f"trainer.{name}") is None:
            yield Cause(_KIND_OF_STATE.get(name, "environment"), f"torch {name}: {value}, now {again}")
    for name, value, again in _differing(before["machine"], after["machine"]):
        if name == "cpu_flags":
            gone, new = set(value.split()) - set(again.split()), set(again.split()) - set(value.split())
            yield Cause("hardware", f"CPU flags: without {sorted(gone)}, with {sorted(new)}")
        elif name not in _UNTOLD:
            kind: Kind = "hardware" if name == "cpu" else "environment"
            yield Cause(kind, f"{name}: {value}, now {again}")
    for name, value, again in _differing(before["variables"], after["variables"]):
        kind = "threads" if name.endswith("NUM_THREADS") else "environment"
        yield Cause(kind, f"variable {name}: {value}, now {again}")


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)


def _packages(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Cause]:
    for name, one, other in _differing(before, after):
        if one is None or other is None:
            versions = [package["version"] if package else "not installed" for package in (one, other)]
            yield Cause("package", f"{name} {versions[0]}, now {versions[1]}")
        elif one["version"] != other["version"]:
            yield Cause("package", f"{name} {one['version']}, now {other['version']}")
        elif one["files_sha256"] != other["files_sha256"]:
            yield Cause("package", f"{name} {one['version']}: other files under the same version")


def _code(recorded: Origins, now: Origins) -> Iterator[Cause]:
    """Files and hunks that differ; and, as the last thing to suspect, what the record could not keep."""
    if recorded.code != now.code:
        yield from (Cause("code", text) for text in _hunks(recorded.code, now.code))
    git, sources = recorded.provenance["git"] or {}, recorded.provenance["sources"] or {}
    for name in [*git.get("left_out_of_patch", ()), *sources.get("left_out", ())]:
        yield Cause("unrecorded", f"{name}: changed or new when the run was made, and not kept")


def _hunks(before: Path, after: Path) -> Iterator[str]:
    """Every place where the code differs, as `file:line: -old +new`."""
    for name in sorted(_files(before) | _files(after), key=lambda name: (not name.endswith(".py"), name)):
        one, other = (folder / name for folder in (before, after))
        if not (one.exists() and other.exists()):
            yield f"{name}: {'only now' if other.exists() else 'no longer there'}"
        elif one.read_bytes() != other.read_bytes():
            texts = [path.read_text(encoding="utf-8", errors="replace").splitlines() for path in (one, other)]
            for tag, start, end, start_now, end_now in difflib.SequenceMatcher(None, texts[0], texts[1]).get_opcodes():
                if tag != "equal":
                    lines = [f"-{line.strip()}" for line in texts[0][start:end]]
                    lines += [f"+{line.strip()}" for line in texts[1][start_now:end_now]]
                    shown = " ".join(lines[:_SHOWN_LINES]) + (" …" if len(lines) > _SHOWN_LINES else "")
                    yield f"{name}:{start_now + 1}: {shown}"


def _files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.suffix in _CODE and path.is_file() and not _NO_CODE & set(path.relative_to(folder).parts)
    }
