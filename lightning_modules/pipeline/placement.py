"""Places a data set's arrays for gathering batches: on the GPU if they fit, otherwise in the host's memory."""

import torch
from torch import Tensor

from lightning_modules.datasets.base import Images
from lightning_modules.images.on_disk import ImagesOnDisk


class Gathered:
    """Images that stay in their file. It is indexed like a tensor on the host, and reads the rows from the file."""

    device = torch.device("cpu")

    def __init__(self, images: ImagesOnDisk) -> None:
        self._images = images

    def __getitem__(self, rows_N: Tensor) -> Tensor:
        return torch.from_numpy(self._images[rows_N.numpy()])


class Placement:
    """Places arrays for a device. An array that several splits share is placed only once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # The key is the array's id. The value also keeps the array alive, so that no other array gets this id.
        self._placed: dict[int, tuple[Images, Tensor | Gathered]] = {}

    def place(self, array: Images) -> Tensor | Gathered:
        """Returns the array as a tensor: on a CUDA device if half of its free memory holds it, otherwise not copied."""
        if id(array) not in self._placed:
            placed = Gathered(array) if isinstance(array, ImagesOnDisk) else self._move(torch.from_numpy(array))
            self._placed[id(array)] = (array, placed)
        return self._placed[id(array)][1]

    def _move(self, tensor: Tensor) -> Tensor:
        if self.device.type != "cuda" or 2 * tensor.nbytes > torch.cuda.mem_get_info(self.device)[0]:
            return tensor
        return tensor.to(self.device)
