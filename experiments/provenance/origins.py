"""The inputs that determine a run's numbers, besides config and code, to compare field by field with another run's."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

OriginKind = Literal[
    "data", "config", "seed", "threads", "code", "package", "hardware", "environment", "nondeterminism", "unrecorded"
]
Field = tuple[OriginKind, str]  # kind and name

_KIND_OF_STATE: dict[str, OriginKind] = {
    "interop_threads": "threads",
    "cpu_capability": "hardware",
    "gpus": "hardware",
    "gpu_capabilities": "hardware",
    "gpu_driver": "hardware",
}
_BYTES = "'s files"  # ends the name of a field on the bytes of a package's files
_SHOWN_FILES = 3
_READ = ", which the code reads"
_RECORDED_ELSEWHERE = {"version", "threads"}  # fields of torch that the packages and the config record
_IRRELEVANT = {"host", "memory_bytes", "cores"}  # fields of the machine that do not change numbers


def origins(provenance: Mapping[str, Any]) -> dict[Field, Any]:
    """Returns the fields of a provenance.json that may change numbers.

    A package has two: (version, SHA-256 of files), and (files edited by hand, SHA-256 of their bytes).
    """
    fields: dict[Field, Any] = {("data", "data"): provenance["data_sha256"]}
    for name, package in provenance["packages"].items():
        fields["package", name] = (package["version"], package["files_sha256"])
        if package.get("bytes_sha256") is not None:
            fields["package", f"{name}{_BYTES}"] = (tuple(package.get("edited", ())), package["bytes_sha256"])
    for name, value in provenance["torch"].items():
        if name not in _RECORDED_ELSEWHERE:
            fields[_KIND_OF_STATE.get(name, "environment"), f"torch {name}"] = value
    for name, value in provenance["machine"].items():
        if name not in _IRRELEVANT:
            fields["hardware" if name in {"cpu", "cpu_flags"} else "environment", name] = value
    for name, value in provenance["variables"].items():
        fields["threads" if name.endswith("NUM_THREADS") else "environment", f"variable {name}"] = value
    used = provenance.get("inputs", {"variables": {}, "files": []})
    for name, value in used["variables"].items():
        fields["environment", f"variable {name}{_READ}"] = value
    for file in used["files"]:
        fields["unrecorded", file["path"]] = file["sha256"]
    return fields


def edited_files(names: Iterable[str]) -> str:
    """Names the files of a package that were edited by hand, the first three of them."""
    listed = sorted(names)
    more = f" and {len(listed) - _SHOWN_FILES} more" if len(listed) > _SHOWN_FILES else ""
    return ", ".join(listed[:_SHOWN_FILES]) + more if listed else "as installed"


def is_told_by_some(field: Field) -> bool:
    """Returns whether only some runs tell a field: by what they import and read, or by their version of the workbench.

    If a run lacks it, that does not mean that it differs from others.
    """
    return field[1].endswith((_BYTES, _READ)) or field[1].startswith("torch ")


def unrecorded(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Describes what a run used that is not in its record, so that a re-run lacks it or may find something else."""
    git, sources = provenance["git"] or {}, provenance.get("sources") or {}
    for name in (*git.get("left_out_of_patch", ()), *sources.get("left_out", ())):  # up to format 3
        yield f"{name}: changed or new when the run was made, and not recorded"
    yield from provenance.get("record", {}).get("problems", ())
    used = provenance.get("inputs", {"files": [], "more_files": 0})
    left_out = provenance.get("code", {}).get("left_out", {})
    for file in used["files"]:
        why = f": {left_out[file['path']]['why']}" if file["path"] in left_out else ""
        yield f"{file['path']}: used, but not in the record{why}"
    if used["more_files"]:
        yield f"{used['more_files']} more files: used, but not in the record"
    for name in provenance.get("callbacks_not_recorded", ()):
        yield f"callback {name}: given as an object, not in the recipe's trainer.callbacks, and not recorded"
