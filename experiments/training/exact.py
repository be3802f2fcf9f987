"""The exact profile: the same numbers whatever the number of threads, on one CPU model."""

import os

import torch

from lightning_modules import InputError

# Sums in one order, with one instruction set (Intel oneMKL Developer Guide, "Conditional Numerical Reproducibility").
_MKL = "AVX2,STRICT"
_CUBLAS = ":4096:8"  # what torch.use_deterministic_algorithms asks for on a GPU

_began = False  # whether this process has prepared a run: MKL reads its variable at its first product


def set_exact(exact: bool) -> None:
    """Chooses deterministic algorithms, and convolutions as matrix products of fixed order instead of oneDNN's.

    Raises InputError where it comes too late: a process that has multiplied matrices keeps MKL's own mode.
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
    torch.backends.mkldnn.enabled = not exact  # type: ignore[assignment]  # its stub has the descriptor
