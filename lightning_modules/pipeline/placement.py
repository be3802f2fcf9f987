"""Where a data set's arrays lie while batches are gathered from them: on the GPU where they fit, else with the host."""

import torch
from torch import Tensor

from lightning_modules.datasets.base import Images
from lightning_modules.images.on_disk import ImagesOnDisk


class Gathered:
    """Images that stay in their file; indexed as a tensor on the host would be, it reads them."""

    device = torch.device("cpu")

    def __init__(self, images: ImagesOnDisk) -> None:
        self._images = images

    def __getitem__(self, rows_N: Tensor) -> Tensor:
        return torch.from_numpy(self._images[rows_N.numpy()])


class Placement:
    """Places arrays for a device, each once however many splits share it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # By the array's id; the array is kept with its tensor, so that the id stays its own.
        self._placed: dict[int, tuple[Images, Tensor | Gathered]] = {}

    def place(self, array: Images) -> Tensor | Gathered:
        """The array as a tensor: on a CUDA device if half of its free memory holds it, else where it is, not copied."""
        if id(array) not in self._placed:
            placed = Gathered(array) if isinstance(array, ImagesOnDisk) else self._move(torch.from_numpy(array))
            self._placed[id(array)] = (array, placed)
        return self._placed[id(array)][1]

    def _move(self, tensor: Tensor) -> Tensor:
        if self.device.type != "cuda" or 2 * tensor.nbytes > torch.cuda.mem_get_info(self.device)[0]:
            return tensor
        return tensor.to(self.device)
