"""The machine, the environment variables and the state of torch that exact numbers depend on."""

import os
import platform
import re
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

from experiments.process.redaction import is_secret_variable, without_credentials

# Prefixes of environment variables that change thread counts or numbers.
_VARIABLES = (
    "ATEN_",
    "BLIS_",
    "CUBLAS",
    "CUDA_",
    "CUDNN_",
    "DNNL_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "PYTHONHASHSEED",
    "PYTORCH_",
    "TORCH_",
)


@cache
def machine() -> dict[str, Any]:
    """Returns host, operating system, Python, CPU (with its sorted flags, if Linux reports them) and memory."""
    return {
        "host": platform.node(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "python_implementation": platform.python_implementation(),
        "cpu": _cpuinfo("model name") or platform.processor(),
        "cpu_flags": " ".join(sorted((_cpuinfo("flags") or _cpuinfo("Features")).split())),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def changes_numbers(variable: str) -> bool:
    """Returns whether an environment variable may change exact numbers; False for a secret."""
    return variable.startswith(_VARIABLES) and not is_secret_variable(variable)


def variables() -> dict[str, str | None]:
    """Returns the environment variables that are set and may change exact numbers; MKL_CBWR always."""
    found = {name: without_credentials(value) for name, value in sorted(os.environ.items()) if changes_numbers(name)}
    return {"MKL_CBWR": None} | found


def torch_state() -> dict[str, Any]:
    """Returns the current versions, thread counts and switches of torch and of its math libraries."""
    backends, gpus = torch.backends, range(torch.cuda.device_count())
    return {
        "version": torch.__version__,
        "commit": torch.version.git_version,
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "cpu_capability": backends.cpu.get_cpu_capability(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "mkl_version": _built_with(r"Math Kernel Library Version ([\d.]+)"),
        "onednn_version": _built_with(r"MKL-DNN v(\S+)"),
        "onednn_enabled": backends.mkldnn.is_available() and bool(backends.mkldnn.enabled),  # type: ignore[no-untyped-call]
        "onednn_deterministic": bool(backends.mkldnn.deterministic),
        "cuda": torch.version.cuda,
        "cudnn": backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "cudnn_enabled": bool(backends.cudnn.enabled),
        "cudnn_benchmark": bool(backends.cudnn.benchmark),
        "cudnn_deterministic": bool(backends.cudnn.deterministic),
        "gpus": [torch.cuda.get_device_name(gpu) for gpu in gpus],
    }


@cache
def _cpuinfo(field: str) -> str:
    """Returns a field of the first core in Linux's /proc/cpuinfo; empty if it is not there."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")


def _built_with(pattern: str) -> str | None:
    found = re.search(pattern, torch.__config__.show())
    return found.group(1) if found else None
