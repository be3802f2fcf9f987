"""int8.pt2: the program with the weights and the activations of convolutions and dense layers in 8 bits.

Weights are int8, with a scale for each output channel. The ranges of activations come from training images (static
quantization: Jacob et al. 2018, arXiv:1712.05877). torchao does it on the traced program, without the network's source.
torch itself has only the operators left, which are all that the file needs.
"""

import logging
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.errors import ExportDiffers
from experiments.export.original import Original, spread
from experiments.export.program import PROGRAM, UNTRACEABLE
from experiments.results.run_images import NoImages
from lightning_modules import InputError

INT8 = "int8.pt2"

_CALIBRATED, _AT_ONCE = 256, 64  # training images that give the ranges of activations, and how many at a time
_SCORED, _SCORED_BYTES = 10_000, 2**28  # the most test images on which accuracies are compared, and their bytes
_MOST_LOST = 0.005  # of accuracy


@dataclass(frozen=True)
class Cost:
    """What 8 bits cost and save: accuracy on so many images of test, and bytes."""

    images: int
    accuracy_before: float
    accuracy_after: float
    bytes_before: int
    bytes_after: int

    def check(self) -> None:
        """Raises ExportDiffers if too much accuracy is lost."""
        if self.accuracy_before - self.accuracy_after > _MOST_LOST:
            change = f"from {self.accuracy_before:.4f} to {self.accuracy_after:.4f}"
            message = f"{INT8}: accuracy falls {change} on test, by more than {100 * _MOST_LOST} points"
            raise ExportDiffers(message, "export without --quantize", "--quantize", "int8")


@dataclass(frozen=True)
class Quantization:
    """Makes `int8.pt2` of a model. `calibration_NHWC`: training images; `images_NHWC` and `labels_N`: of test."""

    calibration_NHWC: NDArray[Any]
    images_NHWC: NDArray[Any]
    labels_N: NDArray[np.int64]

    @classmethod
    def of(cls, original: Original) -> "Quantization":
        """Raises InputError if the model cannot be quantized here."""
        if find_spec("torchao") is None:
            remedy = "pip install 'lightning-workbench[int8]' -c constraints.txt"
            raise InputError("--quantize", "int8", "torchao is not installed", remedy)
        if not original.is_traced:
            raise InputError("--quantize", "int8", UNTRACEABLE, "leave --quantize out")
        try:
            train, test = original.split("train"), original.split("test")
        except NoImages as error:
            message = f"it needs the run's images, which cannot be read: {error}"
            raise InputError("--quantize", "int8", message, "leave --quantize out") from error
        bytes_of_one = test.images[:1].nbytes
        return cls(spread(train, _CALIBRATED)[0], *spread(test, min(_SCORED, max(1, _SCORED_BYTES // bytes_of_one))))

    def write(self, original: Original, folder: Path) -> None:
        with warnings.catch_warnings(action="ignore"):  # of operators that it does not know, which stay in float32
            for name in ("torchao", "torch.utils._pytree"):  # the second tells of a deprecated call in the first
                logging.getLogger(name).setLevel(logging.ERROR)
            from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
            from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

            quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
            prepared = prepare_pt2e(torch.export.load(original.program).module(), quantizer)
            with torch.no_grad():
                for start in range(0, len(self.calibration_NHWC), _AT_ONCE):
                    prepared(torch.from_numpy(self.calibration_NHWC[start : start + _AT_ONCE]))
            converted = convert_pt2e(prepared)
            _remove_unused(converted)  # the weights as floats
            sample = (torch.from_numpy(self.calibration_NHWC[:2]),)
            dynamic_shapes = ({0: torch.export.Dim("N")},)
            quantized = torch.export.export(converted, sample, dynamic_shapes=dynamic_shapes)
            torch.export.save(quantized, folder / INT8)

    def cost(self, original: Original, folder: Path, quantized_NK: NDArray[Any]) -> Cost:
        """`quantized_NK`: the probabilities that the written file gives for `images_NHWC`."""
        before, after = (
            float((probabilities_NK.argmax(axis=1) == self.labels_N).mean())
            for probabilities_NK in (original.answers(self.images_NHWC), quantized_NK)
        )
        return Cost(
            images=len(self.labels_N),
            accuracy_before=before,
            accuracy_after=after,
            bytes_before=(folder / PROGRAM).stat().st_size,
            bytes_after=(folder / INT8).stat().st_size,
        )


def _remove_unused(module: torch.fx.GraphModule) -> None:
    """Removes the parameters that no node of the graph reads: torch.export would keep them."""
    used = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    for name, _ in list(module.named_parameters()):
        if name not in used:
            owner, _, attribute = name.rpartition(".")
            delattr(module.get_submodule(owner), attribute)
