"""What a run's numbers come from, besides its config and code, field by field: to be held against another run's."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

OriginKind = Literal[
    "data", "code", "config", "seed", "threads", "package", "hardware", "environment", "nondeterminism", "unrecorded"
]
Field = tuple[OriginKind, str]  # and its name

# Fields that tell where data lie: the same data may lie elsewhere, and their digest tells whether they are the same.
LOCATIONS = {"data.root", "data.path", "data.labels_path", "data.groups"}

_KIND_OF_STATE: dict[str, OriginKind] = {"interop_threads": "threads", "cpu_capability": "hardware", "gpus": "hardware"}
_TOLD_ELSEWHERE = {"version", "threads"}  # of torch's state: by the package, and by the config
_UNTOLD = {"host", "memory_bytes", "cores"}  # of a machine: they do not change numbers


def origins(provenance: Mapping[str, Any]) -> dict[Field, Any]:
    """The fields of a provenance.json that may change numbers; of packages (version, SHA-256 of their files)."""
    fields: dict[Field, Any] = {("data", "data"): provenance["data_sha256"]}
    for name, package in provenance["packages"].items():
        fields["package", name] = (package["version"], package["files_sha256"])
    for name, value in provenance["torch"].items():
        if name not in _TOLD_ELSEWHERE:
            fields[_KIND_OF_STATE.get(name, "environment"), f"torch {name}"] = value
    for name, value in provenance["machine"].items():
        if name not in _UNTOLD:
            fields["hardware" if name in {"cpu", "cpu_flags"} else "environment", name] = value
    for name, value in provenance["variables"].items():
        fields["threads" if name.endswith("NUM_THREADS") else "environment", f"variable {name}"] = value
    return fields


def unkept(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Files that were changed or new when the run was made, and that its record does not hold."""
    git, sources = provenance["git"] or {}, provenance["sources"] or {}
    yield from [*git.get("left_out_of_patch", ()), *sources.get("left_out", ())]
