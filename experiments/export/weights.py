"""model.safetensors, config.json, and the source of the network in network/: for torch and safetensors alone."""

import ast
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.code.own import as_loaded, own_folders, own_modules
from experiments.code.recorded import RecordedCode
from experiments.code.snapshot import PROJECT
from experiments.errors import CannotRun
from experiments.export.original import Original
from lightning_modules.networks import network_call
from lightning_modules.plug import search_folders

WEIGHTS, FACTS, SOURCE = "model.safetensors", "config.json", "network"

_BUILT_IN, _FLOOR = "lightning_modules.networks.", "lightning_modules"


@dataclass(frozen=True)
class _Call:
    """How the network is made: its dotted path, which begins in network/ or in a package, and its arguments."""

    path: str
    arguments: dict[str, Any]
    image_shape: Sequence[int]  # (C, H, W), as the network receives it


def write_weights(original: Original, folder: Path) -> None:
    """Raises WorkbenchError if the code of the network is no longer there, or a package that it needs."""
    from safetensors.torch import load_file, save_file

    state = torch.export.load(original.program).state_dict
    if original.is_traced:
        call = _write_source(original, folder / SOURCE)
        begin = "network."
        tensors = _once({name.removeprefix(begin): value for name, value in state.items() if name.startswith(begin)})
    else:
        call = _copy_source(original, folder / SOURCE)
        tensors = load_file(original.files / WEIGHTS)
    for part in ("normalization.scale", "normalization.offset"):
        (tensors[part],) = (_own_memory(value) for name, value in state.items() if name.endswith(part))
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    facts["network"] = {
        "path": call.path,
        "arguments": call.arguments,
        "image_shape": list(call.image_shape),
        "imports": _imports(call.path, folder / SOURCE),
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def write_facts(original: Original, folder: Path) -> None:
    """Writes what all files need to know: classes and labels, the shape (H, W, C) and the type of raw images."""
    run = original.model.run
    facts = {
        "run": {"id": run.run_id, "name": run.name},
        "class_names": original.facts["class_names"],
        "labels": original.facts["labels"],
        "image_shape": original.facts["image_shape"],
        "type": str(original.model.type),
        "versions": {name: version(name) for name in ("torch", "numpy", "safetensors")},
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _write_source(original: Original, target: Path) -> _Call:
    """Writes the files that make the network, as the run recorded them, and returns the call."""
    if original.provenance is None:
        raise CannotRun("the run has no provenance.json that says which code it ran")
    recorded = RecordedCode(original.store.folder, original.provenance, original.recorded_artifacts())
    with recorded.unpacked() as code:
        search_folders(code.imports[1:])
        config, shape = original.network_config, original.network_shape
        path, arguments = network_call(config.network, config.network_args, shape, len(original.facts["class_names"]))
        own = {name: as_loaded(file) for name, file in own_modules(own_folders(path)).items()}
        if path.startswith(_BUILT_IN):
            name = f"{path.removeprefix(_BUILT_IN).partition('.')[0]}.py"
            places = [folder / _FLOOR / "networks" / name for folder in (code.folder, PROJECT)]  # older code: elsewhere
            own = {name: next(filter(Path.is_file, places)).read_bytes()}
            if _FLOOR.encode() not in own[name]:  # a file that stands alone needs no package around it
                path = path.removeprefix(_BUILT_IN)
        for name, content in own.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)
        if any(_FLOOR.encode() in content for content in own.values()):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(code.folder / _FLOOR, target / _FLOOR, ignore=ignored)
    return _Call(path, arguments, shape)


def _copy_source(original: Original, target: Path) -> _Call:
    """Copies the files that the model itself brings, and returns the call."""
    brought = original.model.folder / "code"
    if brought.is_dir():
        shutil.copytree(brought, target, ignore=shutil.ignore_patterns("__pycache__"))
    network = original.facts["network"]
    return _Call(network["path"], network["arguments"], network["shape"])


def _imports(path: str, source: Path) -> list[str]:
    """Returns the packages besides torch that the source, and the module that `path` begins with, are from."""
    roots = {path.partition(".")[0]}
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                roots |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                roots.add(node.module.partition(".")[0])
    own = {each.stem for each in source.glob("*")}
    return sorted(roots - own - sys.stdlib_module_names - {"torch"})


def _once(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns each tensor under the first of its names. Two that share memory are one: safetensors refuses them."""
    first: dict[Any, str] = {}
    for name, value in tensors.items():
        first.setdefault((value.data_ptr(), value.shape, value.stride()) if value.numel() else name, name)
    return {name: _own_memory(tensors[name]) for name in first.values()}


def _own_memory(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)
