"""The inputs that determine a run's numbers, besides config and code, to compare field by field with another run's."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

OriginKind = Literal[
    "data", "code", "config", "seed", "threads", "package", "hardware", "environment", "nondeterminism", "unrecorded"
]
Field = tuple[OriginKind, str]  # kind and name

# Fields that say where data are stored. They are not compared: the digest shows whether the data are the same.
LOCATIONS = {"data.root", "data.path", "data.labels_path", "data.groups"}

_KIND_OF_STATE: dict[str, OriginKind] = {"interop_threads": "threads", "cpu_capability": "hardware", "gpus": "hardware"}
_RECORDED_ELSEWHERE = {"version", "threads"}  # fields of torch that the packages and the config record
_IRRELEVANT = {"host", "memory_bytes", "cores"}  # fields of the machine that do not change numbers


def origins(provenance: Mapping[str, Any]) -> dict[Field, Any]:
    """Returns the fields of a provenance.json that may change numbers; packages as (version, SHA-256 of files)."""
    fields: dict[Field, Any] = {("data", "data"): provenance["data_sha256"]}
    for name, package in provenance["packages"].items():
        fields["package", name] = (package["version"], package["files_sha256"])
    for name, value in provenance["torch"].items():
        if name not in _RECORDED_ELSEWHERE:
            fields[_KIND_OF_STATE.get(name, "environment"), f"torch {name}"] = value
    for name, value in provenance["machine"].items():
        if name not in _IRRELEVANT:
            fields["hardware" if name in {"cpu", "cpu_flags"} else "environment", name] = value
    for name, value in provenance["variables"].items():
        fields["threads" if name.endswith("NUM_THREADS") else "environment", f"variable {name}"] = value
    return fields


def unrecorded(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Describes what a run used that is not in its record, so that a re-run lacks it."""
    git, sources = provenance["git"] or {}, provenance["sources"] or {}
    for name in (*git.get("left_out_of_patch", ()), *sources.get("left_out", ())):
        yield f"{name}: changed or new when the run was made, and not recorded"
    for name in provenance.get("callbacks_not_recorded", ()):
        yield f"callback {name}: given as an object, not in the recipe's trainer.callbacks, and not recorded"
