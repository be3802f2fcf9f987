"""Mixup and CutMix: the images, and how much of each label the loss counts."""

import pytest
import torch
from torch import nn

from lightning_modules import ImageClassifier
from lightning_modules.pipeline.mixing import Mixing

IMAGES = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 8, 8).contiguous()  # image k is all k


def test_mixup_adds_a_share_of_the_partner() -> None:
    torch.manual_seed(0)
    mixed, partners, share = Mixing(mixup=1.0).apply(IMAGES)
    assert 0 < share < 1
    assert sorted(partners.tolist()) == [0, 1, 2, 3]
    for k in range(4):
        wanted = share * k + (1 - share) * partners[k].item()
        assert mixed[k].flatten().tolist() == pytest.approx([wanted] * 64, rel=1e-5)


def test_cutmix_pastes_a_rectangle_and_counts_its_area() -> None:
    areas = set()
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, partners, share = Mixing(cutmix=1.0).apply(IMAGES)
        for k in range(4):
            foreign = (mixed[k, 0] == partners[k]) & (partners[k] != k)
            assert ((mixed[k, 0] == k) | foreign).all()
            if partners[k] != k:
                rows, columns = torch.where(foreign)
                assert len(rows) == round((1 - share) * 64)
                if len(rows):  # it is a rectangle
                    sides = [int(places.max() - places.min()) + 1 for places in (rows, columns)]
                    assert sides[0] * sides[1] == len(rows)
        areas.add(round((1 - share) * 64))
    assert len(areas) > 5
    assert torch.equal(IMAGES[3], torch.full((1, 8, 8), 3.0))  # the images given are not changed


def test_with_both_each_batch_takes_one_of_them() -> None:
    torch.manual_seed(0)
    both = Mixing(mixup=0.4, cutmix=1.0)
    is_cut = [bool((both.apply(IMAGES)[0] % 1 == 0).all()) for _ in range(200)]
    assert 70 < sum(is_cut) < 130
    assert not Mixing()


class Fixed(Mixing):
    """Mixes by turning the batch round; three quarters of each image are its own."""

    def __bool__(self) -> bool:
        return True

    def apply(self, images_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
        return images_NCHW, torch.arange(len(images_NCHW)).flip(0), 0.75


def test_the_loss_counts_both_labels_by_their_shares() -> None:
    """All logits are 0 but that of class 0, ln 3: the probabilities are 1/2, 1/6, 1/6, 1/6."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.copy_(torch.tensor([3.0, 1.0, 1.0, 1.0]).log())
    classifier = ImageClassifier(network, mixing=Fixed())
    loss = classifier.training_step((IMAGES[:2], torch.tensor([0, 1])), 0)
    half, sixth = torch.tensor(2.0).log(), torch.tensor(6.0).log()
    assert loss.item() == pytest.approx(float((0.75 * half + 0.25 * sixth + 0.75 * sixth + 0.25 * half) / 2))
    classifier.validation_step((IMAGES[:2], torch.tensor([0, 1])), 0)  # never mixed
    validated = classifier._scores["val"].compute()["loss"]
    assert validated.item() == pytest.approx(float((half + sixth) / 2))
