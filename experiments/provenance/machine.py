"""The machine, the environment variables and the state of torch that exact numbers depend on."""

import os
import platform
import re
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch
from threadpoolctl import threadpool_info

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


# Environment variables that a re-run sets as they were recorded: they choose numbers of threads, instruction sets and
# algorithms. Others with these prefixes write files or load libraries (TORCH_LOGS_OUT, OMP_TOOL_LIBRARIES).
_HARMLESS = {
    *("ATEN_CPU_CAPABILITY", "BLIS_NUM_THREADS", "OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS"),
    *("CUBLAS_WORKSPACE_CONFIG", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING"),
    *("DNNL_CPU_ISA_HINTS", "DNNL_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA", "DNNL_PRIMITIVE_CACHE_CAPACITY"),
    *("ONEDNN_CPU_ISA_HINTS", "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"),
    *("GOMP_CPU_AFFINITY", "GOMP_SPINCOUNT", "KMP_AFFINITY", "KMP_BLOCKTIME", "KMP_DETERMINISTIC_REDUCTION"),
    *("MKL_CBWR", "MKL_DOMAIN_NUM_THREADS", "MKL_DYNAMIC", "MKL_ENABLE_INSTRUCTIONS", "MKL_NUM_THREADS"),
    *("MKL_DEBUG_CPU_TYPE", "MKL_INTERFACE_LAYER", "MKL_THREADING_LAYER", "NVIDIA_TF32_OVERRIDE"),
    *("OMP_DYNAMIC", "OMP_MAX_ACTIVE_LEVELS", "OMP_NESTED", "OMP_NUM_THREADS", "OMP_PLACES", "OMP_PROC_BIND"),
    *("OMP_SCHEDULE", "OMP_STACKSIZE", "OMP_THREAD_LIMIT", "OMP_WAIT_POLICY", "PYTHONHASHSEED"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING"),
    *("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_BLAS_PREFER_CUBLASLT", "TORCH_COMPILE_DISABLE"),
}
# It says which of this machine's GPUs a process uses: a re-run uses those that it is given today.
PLACE = "CUDA_VISIBLE_DEVICES"
_ALWAYS_TOLD = ("MKL_CBWR", "ONEDNN_MAX_CPU_ISA")


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


def is_harmless(variable: str) -> bool:
    """Returns whether a re-run may set an environment variable to what a record says."""
    return variable in _HARMLESS


def variables() -> dict[str, str | None]:
    """Returns the environment variables that are set and may change exact numbers; two of them always."""
    found = {name: without_credentials(value) for name, value in sorted(os.environ.items()) if changes_numbers(name)}
    return dict.fromkeys(_ALWAYS_TOLD) | found


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
        "blas": _blas(),
        "onednn_deterministic": bool(backends.mkldnn.deterministic),
        "cuda": torch.version.cuda,
        "cudnn": backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "cudnn_enabled": bool(backends.cudnn.enabled),
        "cudnn_benchmark": bool(backends.cudnn.benchmark),
        "cudnn_deterministic": bool(backends.cudnn.deterministic),
        "gpus": [torch.cuda.get_device_name(gpu) for gpu in gpus],
        "gpu_capabilities": [".".join(map(str, torch.cuda.get_device_capability(gpu))) for gpu in gpus],
        "gpu_driver": _gpu_driver(),
    }


@cache
def _blas() -> list[str]:
    """Returns the libraries of linear algebra and of threads that are loaded, with version and instruction set."""
    found = threadpool_info()
    words = ("internal_api", "version", "architecture", "threading_layer")
    return sorted({" ".join(str(each[word]) for word in words if each.get(word)) for each in found})


@cache
def _gpu_driver() -> str | None:
    """Returns the version of NVIDIA's kernel driver; None if Linux does not tell one."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    found = re.search(r"(\d+\.\d+[.\d]*)", text)
    return found.group(1) if found else None


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
