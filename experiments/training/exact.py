"""Exact mode: on one CPU model, training gives the same numbers for any number of threads."""

import os

import torch

from lightning_modules import InputError

# Fixed summation order and instruction set (Intel oneMKL Developer Guide, "Conditional Numerical Reproducibility").
_MKL = "AVX2,STRICT"
_CUBLAS = ":4096:8"  # torch.use_deterministic_algorithms requires this on a GPU

_began = False  # whether this process has prepared a run: MKL reads its variable at its first matrix product


def set_exact(exact: bool) -> None:
    """Selects deterministic algorithms, and convolutions as matrix products in a fixed order instead of oneDNN's.

    Raises InputError if it is too late: after the first matrix product, a process cannot change MKL's mode.
    """
    global _began
    if exact:
        if _began and os.environ.get("MKL_CBWR") != _MKL:
            remedy = f"start a new process, or set MKL_CBWR={_MKL} before this one"
            raise InputError("trainer.exact", exact, "this process has already trained without it", remedy)
        os.environ["MKL_CBWR"] = _MKL
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _CUBLAS)
    _began = True
    torch.use_deterministic_algorithms(exact)
    torch.backends.mkldnn.enabled = not exact  # type: ignore[assignment]  # torch's stub declares the descriptor
