"""Training in chunks of batches: the same numbers, bit by bit, as step by step."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_modules import DataConfig, ImageClassifier, ImageDataModule, OptimizerConfig
from lightning_modules.optimizers import ScheduleConfig
from lightning_modules.pipeline.augmentation import AugmentationConfig
from lightning_modules.stepping.clipping import clipping

EPOCHS = 3
DATA = DataConfig(batch_size=100, augmentation=AugmentationConfig(shift=1, noise=1))  # 1,294 images: 13 batches


class Network(torch.nn.Sequential):
    """A network that draws from torch's random state."""

    def __init__(self) -> None:
        layers = (torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(32, 10))
        super().__init__(torch.nn.Flatten(), *layers)


class Recorder(pl.Callback):
    """Remembers the step and the learning rate after each epoch, and saves a checkpoint there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[tuple[int, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seen.append((trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]))
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch + 1}.ckpt")


def train(folder: Path, steps: int, *, resume: Path | None = None, clip: float | None = 0.1, **optimizer: Any):
    """Returns the weights after training, and what the recorder saw. `steps`: in one execution."""
    pl.seed_everything(0, verbose=False)
    data = ImageDataModule(DATA)
    schedule = ScheduleConfig(kind="one_cycle")
    config = OptimizerConfig(**{"lr": 0.01, "schedule": schedule, **optimizer})
    classifier = ImageClassifier(Network(), optimizer=config)
    limits = {"gradient_clip_val": clip}
    if steps > 1:
        data.steps_per_execution = steps
        classifier.train_in_chunks(clipping(clip, "norm"))
        limits = {}
    folder.mkdir(exist_ok=True)
    recorder = Recorder(folder)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = pl.Trainer(max_epochs=EPOCHS, accelerator="cpu", devices=1, callbacks=[recorder], **quiet, **limits)
    if resume is not None:
        torch.manual_seed(1)
    trainer.fit(classifier, data, ckpt_path=resume, weights_only=True)
    return classifier.state_dict(), recorder.seen


@pytest.mark.parametrize(
    ("kind", "steps"),  # of 13 batches: the last execution is short, or the only one
    [("sgd", 2), ("adam", 5), ("adamw", 64), ("rmsprop", 5), ("lbfgs", 5)],
)
def test_chunks_change_no_bit(kind: str, steps: int, tmp_path: Path) -> None:
    optimizer: dict[str, Any] = {"kind": kind}
    one, seen = train(tmp_path / "one", 1, **optimizer)
    chunks, seen_in_chunks = train(tmp_path / "chunks", steps, **optimizer)
    assert seen_in_chunks == seen
    assert [step for step, _ in seen] == [13, 26, 39]
    for name, weights in one.items():
        assert torch.equal(chunks[name], weights), name


@pytest.mark.parametrize(("before", "after"), [(1, 5), (5, 1), (64, 2)])
def test_training_resumes_in_another_way(before: int, after: int, tmp_path: Path) -> None:
    """Without dropout's draws and the state that Lightning does not save, the weights would be equal, too."""
    _, seen = train(tmp_path / "whole", before)
    resumed, seen_later = train(tmp_path / "later", after, resume=tmp_path / "whole" / "1.ckpt")
    again, seen_again = train(tmp_path / "again", 1, resume=tmp_path / "whole" / "1.ckpt")
    assert seen_later == seen_again == seen[1:]
    for name, weights in again.items():
        assert torch.equal(resumed[name], weights), name


def test_clipping_by_value_is_lightnings(tmp_path: Path) -> None:
    gradient = torch.nn.Parameter(torch.zeros(3))
    gradient.grad = torch.tensor([-3.0, 0.5, 4.0])
    clip = clipping(1.0, "value")
    assert clip is not None
    clip([gradient])
    assert gradient.grad.tolist() == [-1.0, 0.5, 1.0]
    clip_norm = clipping(0.75, None)
    assert clip_norm is not None
    clip_norm([gradient])  # its norm is 1.5
    assert gradient.grad.tolist() == pytest.approx([-0.5, 0.25, 0.5], abs=1e-6)
    assert clipping(None, None) is None
