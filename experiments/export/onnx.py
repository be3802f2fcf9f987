"""model.onnx: the program in the format that many other runtimes read. Needs the extra `onnx`."""

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch

from experiments.errors import CannotRun
from experiments.export.original import Original
from experiments.export.program import UNTRACEABLE

ONNX = "model.onnx"

_NEEDS = ("onnx", "onnxruntime", "onnxscript")
_LARGEST = 2**31 - 2**24  # bytes: a protobuf message ends at 2 GiB


def write_onnx(original: Original, folder: Path) -> None:
    """Raises CannotRun, with the reason, if the program cannot be written as ONNX."""
    if not original.is_traced:
        raise CannotRun(UNTRACEABLE)
    if missing := [name for name in _NEEDS if find_spec(name) is None]:
        raise CannotRun(f"{missing[0]} is not installed: pip install 'lightning-workbench[onnx]' -c constraints.txt")
    if original.program.stat().st_size > _LARGEST:
        raise CannotRun("the weights take more than the 2 GiB that one ONNX file can hold")
    program = torch.export.load(original.program)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            torch.onnx.export(
                *(program, (), folder / ONNX),
                input_names=["images"],
                output_names=["probabilities"],
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises many kinds for operators that ONNX lacks
        (folder / ONNX).unlink(missing_ok=True)
        reason = " ".join(str(error).split())[:200]
        raise CannotRun(f"torch.onnx cannot write this network: {type(error).__name__}: {reason}") from error
