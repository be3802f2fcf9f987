"""What a run needs to be run again, gathered before training begins."""

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from functools import cache
from hashlib import sha256
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import psutil
import torch
from mlflow.entities import Dataset, DatasetInput, InputTag

from experiments.config import ExperimentConfig, flatten
from experiments.tracking import TrackedRun
from lightning_modules import ImageDataModule

PROJECT = Path(__file__).resolve().parent.parent
_MAX_PATCH, _MAX_FILE = 10_000_000, 1_000_000  # bytes
# Files that look like credentials never enter a patch.
_SECRETS = (".env", ".env.*", "*.pem", "*.key", "*id_rsa*", "*credentials*", "*secret*", "*token*", ".netrc")


def record(run: TrackedRun, config: ExperimentConfig, data: ImageDataModule) -> None:
    """Writes params, data inputs, tags, and the artifacts that describe the run's code, packages and machine."""
    git = _git_state(run.store.folder)
    digests = {name: subset.order_sha256 for name, subset in data.splits.items()}
    provenance = {
        "command": shlex.join(sys.argv),
        "seed": config.seed,
        "data_sha256": data.dataset.sha256,
        "split_sha256": digests,
        "git": {key: value for key, value in git.items() if key != "patch"},
        "machine": _machine(),
        "torch": _torch_state(),
    }
    (run.folder / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    (run.folder / "provenance.json").write_text(json.dumps(provenance, indent=2), encoding="utf-8")
    (run.folder / "uncommitted.patch").write_bytes(git.get("patch", b""))
    (run.folder / "requirements.txt").write_text("\n".join(packages()) + "\n", encoding="utf-8")
    run.log_params(flatten(config.tree()))
    run.log_inputs([_input(name, data) for name in data.splits])
    commit = {"mlflow.source.git.commit": git["commit"]} if git else {}
    run.set_tags({"workbench.data_sha256": data.dataset.sha256, **commit})


def _input(split: str, data: ImageDataModule) -> DatasetInput:
    """One split as an MLflow data input. The digest field holds 36 characters: the full one is in tag and profile."""
    subset = data.splits[split]
    digest = sha256(f"{data.dataset.sha256} {split}".encode())
    digest.update(subset.indices.tobytes())
    shape = [len(subset), *subset.images.shape[1:]]
    profile = {"sha256": digest.hexdigest(), "data_sha256": data.dataset.sha256, "images": len(subset)}
    tensor = {"type": "tensor", "tensor-spec": {"dtype": str(subset.images.dtype), "shape": [-1, *shape[1:]]}}
    dataset = Dataset(
        name=f"{data.config.source}-{split}",
        digest=digest.hexdigest()[:36],
        source_type="local",
        source=json.dumps({"source": data.config.source, "path": data.config.path, "root": data.config.root}),
        schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps([tensor])}}),
        profile=json.dumps(profile),
    )
    return DatasetInput(
        dataset, [InputTag("mlflow.data.context", split), InputTag("workbench.sha256", digest.hexdigest())]
    )


@cache
def packages() -> list[str]:
    """Every installed package as `name==version`, sorted."""
    return sorted({f"{d.metadata['Name']}=={d.version}" for d in distributions() if d.metadata["Name"]}, key=str.lower)


def _machine() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


@cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _torch_state() -> dict[str, Any]:
    gpu = torch.cuda.is_available()
    return {
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "mkl_cbwr": os.environ.get("MKL_CBWR"),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cuda": torch.version.cuda if gpu else None,
        "gpu": torch.cuda.get_device_name() if gpu else None,
    }


@cache
def _git_state(store: Path) -> dict[str, Any]:
    """Commit, branch, and everything uncommitted (untracked files too) as one patch; empty outside a checkout.

    As it was at the process's first run: code edited later is not what this process runs.
    """
    try:
        commit = _git("rev-parse", "HEAD").decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return {}
    branch = _git("rev-parse", "--abbrev-ref", "HEAD").decode().strip()
    patch, left_out = _patch(store)
    dirty = bool(patch or left_out)
    return {"commit": commit, "branch": branch, "dirty": dirty, "left_out_of_patch": left_out, "patch": patch}


def _patch(store: Path) -> tuple[bytes, list[str]]:
    """The patch, and the files kept out of it: secrets, and what is too large to be code. The store is no part of it.

    A scratch index and object folder leave the repository untouched.
    """
    objects = (PROJECT / _git("rev-parse", "--git-path", "objects").decode().strip()).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        env = {
            "GIT_INDEX_FILE": f"{scratch}/index",
            "GIT_OBJECT_DIRECTORY": f"{scratch}/objects",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
        }
        Path(env["GIT_OBJECT_DIRECTORY"]).mkdir()
        _git("read-tree", "HEAD", env=env)
        outside = [] if not store.is_relative_to(PROJECT) else [f":(exclude,top,literal){store.relative_to(PROJECT)}"]
        # Errors are passed over: a file that cannot be read is no reason not to train.
        _git("add", "--all", "--ignore-errors", "--", ".", *outside, env=env, check=False)
        changed = _git("diff", "--cached", "--name-only", "-z", "HEAD", env=env).decode().split("\0")
        left_out = [name for name in changed if name and (_is_secret(name) or _is_large(name))]
        excluded = [f":(exclude,literal,top){name}" for name in left_out]
        # Spelled out, since the user's own git settings could make a patch that `git apply` does not take.
        plain = ("--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
        patch = _git("diff", "--cached", "--binary", *plain, "HEAD", "--", ".", *excluded, env=env)
    if len(patch) > _MAX_PATCH:
        return b"", [*left_out, f"all of it: {len(patch)} bytes are more than {_MAX_PATCH}"]
    return patch, left_out


def _is_secret(name: str) -> bool:
    return any(Path(name).match(pattern) for pattern in _SECRETS)


def _is_large(name: str) -> bool:
    path = PROJECT / name
    return path.is_file() and path.stat().st_size > _MAX_FILE


def _git(*words: str, env: dict[str, str] | None = None, check: bool = True) -> bytes:
    command = ["git", "-C", str(PROJECT), *words]
    return subprocess.run(command, env=os.environ | (env or {}), capture_output=True, check=check).stdout
