"""Turns indices into batches on the device: gathers, augments and normalizes whole batches."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lightning_modules.images.on_disk import ImagesOnDisk
from lightning_modules.pipeline.augmentation import AugmentationConfig
from lightning_modules.pipeline.fitting import Fitting
from lightning_modules.pipeline.normalization import Normalization
from lightning_modules.pipeline.order import BlockOrder, full_shuffle
from lightning_modules.pipeline.placement import Placement
from lightning_modules.pipeline.sampling import Sampling, draw_balanced
from lightning_modules.pipeline.share import Share
from lightning_modules.pipeline.splits import Subset, indices_sha256
from lightning_modules.stepping.stretch import Stretch

# Shapes: N images, C channels, H x W pixels.

# Pixel values per gather and augmentation (at least one batch): for 32 small images, the calls themselves cost most.
_VALUES_AT_ONCE = 2**20


class EpochCounter:
    """The number of the next epoch. Lightning sets it through `loader.sampler`. In a plain loop it counts up."""

    def __init__(self) -> None:
        self.number = 0

    def set_epoch(self, number: int) -> None:
        self.number = number


class Batches:
    """Iterates over (images float32 (N, C, H, W), labels int64 (N,)) on the placement's device; the last may be short.

    With `shuffle_seed`, the order (see `sampling`) and the random values of `augmentation` depend only on that seed and
    on the number of the epoch: not on global random state, on earlier runs or (except for noise) on the device. Without
    it, images come in the subset's order. `BlockOrder` shuffles images on disk; all others are shuffled fully. If the
    data set is on the device, only the order and the random values are copied to it, and the host never waits.
    `fitting` follows normalization. `drops_single` leaves out a last batch of which a process would get one image, or
    none.

    `share`: of each shuffled batch, this process gets its part, augmented as in the whole batch. Where a last batch has
    fewer images than there are processes, some get one image whose `weight` is 0. Batches in the subset's order are not
    divided: each process gets every `ranks`-th of them.
    """

    batch_sampler = None  # Lightning reads it if there is a sampler

    def __init__(
        self,
        subset: Subset,
        normalization: Normalization,
        batch_size: int,
        *,
        placement: Placement | None = None,
        shuffle_seed: int | None = None,
        sampling: Sampling = "shuffled",
        augmentation: AugmentationConfig | None = None,
        fitting: Fitting | None = None,
        drops_single: bool = False,
        share: Share | None = None,
    ) -> None:
        placement = placement or Placement(torch.device("cpu"))
        self.device = placement.device
        self.images_NHWC, self.labels_N = placement.place(subset.images), placement.place(subset.labels)
        self.indices_N = torch.from_numpy(subset.indices)
        self._own_labels_N = torch.from_numpy(subset.targets)  # on the host
        self.normalization = copy.deepcopy(normalization).to(self.device)
        self.batch_size = batch_size
        self.shuffle_seed = shuffle_seed
        self.sampling = sampling
        self.augmentation = augmentation
        self.fitting = fitting or Fitting()
        self.share = share or Share()
        self.drops_single = drops_single and len(self.indices_N) > batch_size
        images = subset.images
        self._shuffle = BlockOrder(images.block).shuffle if isinstance(images, ImagesOnDisk) else full_shuffle
        values = batch_size * int(np.prod(images.shape[1:]))  # per batch
        self._images_at_once = batch_size * max(1, _VALUES_AT_ONCE // values)
        self.sampler = EpochCounter()
        self._order_N = self.indices_N

    @property
    def order_sha256(self) -> str:
        """SHA-256 of the indices that the latest epoch showed, in order."""
        return indices_sha256(self._order_N.numpy())

    def __len__(self) -> int:
        if self.shuffle_seed is None:
            return len(range(self.share.rank, self._batches, self.share.ranks))
        last = len(self.indices_N) % self.batch_size
        return self._batches - (self.drops_single and 0 < last < 2 * self.share.ranks)

    @property
    def _batches(self) -> int:
        return -(-len(self.indices_N) // self.batch_size)

    def _size(self, batch: int) -> int:
        """Returns how many images a batch has for all processes together."""
        return min(self.batch_size, len(self.indices_N) - batch * self.batch_size)

    def weight(self, batch: int) -> float:
        """Returns the weight of this process's part of a shuffled batch, counted from 0: see `Share.weight`."""
        return self.share.weight(self._size(batch))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        length, yielded = len(self), 0
        for images_NHWC, labels_N, sizes in self._gathered():
            images, labels = (torch.split(together, sizes) for together in (images_NHWC, labels_N))
            for images_NHWC, labels_N in zip(images, labels, strict=True):
                if yielded < length:
                    yield self._ready(images_NHWC), labels_N
                yielded += 1

    def stretches(self) -> Iterator[Stretch]:
        """Yields the same batches, several together, before normalization. Not for the part of one of several ranks."""
        assert self.share.ranks == 1
        left = len(self)
        for images_NHWC, labels_N, _ in self._gathered():
            together = Stretch(
                images_NHWC, labels_N, self.batch_size, self._ready, self._images_at_once // self.batch_size
            )
            if left:
                stretch, _ = together.divided(left)
                left -= len(stretch)
                yield stretch

    def _ready(self, images_NHWC: Tensor) -> Tensor:
        ready_NCHW: Tensor = self.fitting(self.normalization(images_NHWC.permute(0, 3, 1, 2)))
        return ready_NCHW

    def _gathered(self) -> Iterator[tuple[Tensor, Tensor, list[int] | int]]:
        """Yields the images of several batches, augmented, with their labels and the size of each batch, or of all."""
        generator = torch.Generator()
        indices_N = self.indices_N
        if self.shuffle_seed is None:
            if self.share.ranks > 1:
                indices_N = torch.cat(torch.split(indices_N, self.batch_size)[self.share.rank :: self.share.ranks])
        else:
            generator.manual_seed(_epoch_seed(self.shuffle_seed, self.sampler.number))
            if self.sampling == "balanced":
                indices_N = indices_N[draw_balanced(self._own_labels_N, generator)]
            indices_N = self._shuffle(indices_N, generator)
        self._order_N = indices_N
        is_shared = self.share.ranks > 1 and self.shuffle_seed is not None
        first = 0
        for chosen_N in torch.split(indices_N.to(self.images_NHWC.device), self._images_at_once):
            sizes: list[int] | int = self.batch_size
            own_N: Tensor | None = None
            if is_shared:
                own_N, sizes = self._own(first, len(chosen_N))
                first += len(chosen_N) // self.batch_size
                own_N = own_N.to(chosen_N.device)
                if not self.augmentation:
                    chosen_N, own_N = chosen_N[own_N], None
            images_NHWC = self.images_NHWC[chosen_N].to(self.device, non_blocking=True)
            labels_N = self.labels_N[chosen_N.to(self.labels_N.device)].to(self.device, non_blocking=True)
            if self.augmentation:
                images_NHWC = self.augmentation.apply(images_NHWC, generator)
                if own_N is not None:
                    images_NHWC, labels_N = (each[own_N.to(self.device)] for each in (images_NHWC, labels_N))
            yield images_NHWC, labels_N, sizes
        self.sampler.number += 1

    def _own(self, batch: int, count: int) -> tuple[Tensor, list[int]]:
        """Returns which of `count` images, from a batch's first on, are this process's, and how many of each batch."""
        places, sizes = [], []
        for start in range(0, count, self.batch_size):
            begin, end = self.share.of(self._size(batch))
            if begin == end:  # its weight is 0, but the processes take every step together
                begin, end = 0, 1
            places.append(torch.arange(start + begin, start + end))
            sizes.append(end - begin)
            batch += 1
        return torch.cat(places), sizes


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
