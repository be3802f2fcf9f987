"""Where a data set's arrays lie while batches are gathered from them: on the GPU where they fit, else with the host."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


class Placement:
    """Places arrays for a device, each once however many splits share it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # By the array's id; the array is kept with its tensor, so that the id stays its own.
        self._placed: dict[int, tuple[NDArray[Any], Tensor]] = {}

    def place(self, array: NDArray[Any]) -> Tensor:
        """The array as a tensor: on a CUDA device if half of its free memory holds it, else where it is, not copied."""
        if id(array) not in self._placed:
            self._placed[id(array)] = (array, self._move(torch.from_numpy(array)))
        return self._placed[id(array)][1]

    def _move(self, tensor: Tensor) -> Tensor:
        if self.device.type != "cuda" or 2 * tensor.nbytes > torch.cuda.mem_get_info(self.device)[0]:
            return tensor
        return tensor.to(self.device)
