"""Placement: a data set lies on the device once, and batches from there are the host's batches."""

import numpy as np
import pytest
import torch

from lightning_modules.datasets import ImageDataset
from lightning_modules.pipeline.augmentation import AugmentationConfig
from lightning_modules.pipeline.batches import Batches
from lightning_modules.pipeline.normalization import fit_normalization
from lightning_modules.pipeline.placement import Placement
from lightning_modules.pipeline.splits import Subset


def test_on_the_cpu_nothing_is_copied() -> None:
    array = np.zeros(3)
    placed = Placement(torch.device("cpu")).place(array)
    array[0] = 7
    assert placed[0] == 7


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_splits_share_one_copy_and_an_epoch_never_makes_the_host_wait(numbered: ImageDataset) -> None:
    subset = Subset(numbered.train.images, numbered.train.labels, np.arange(10, 30, 2))
    normalization, placement = fit_normalization("per_pixel", subset), Placement(torch.device("cuda"))
    augmentation = AugmentationConfig(shift=1, horizontal_flip=True)

    def batches(placement: Placement | None) -> Batches:
        return Batches(subset, normalization, 4, shuffle_seed=0, augmentation=augmentation, placement=placement)

    on_gpu, on_cpu = batches(placement), batches(None)
    assert placement.place(subset.images) is on_gpu.images_NHWC
    epoch = iter(on_gpu)
    first = next(epoch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        rest = list(epoch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for (images, labels), (images_cpu, labels_cpu) in zip([first, *rest], on_cpu, strict=True):
        torch.testing.assert_close(images.cpu(), images_cpu)
        assert labels.tolist() == labels_cpu.tolist()
