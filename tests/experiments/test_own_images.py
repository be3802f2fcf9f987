"""A researcher's own images, trained from their files to the end with no code written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import Store, load_config, run


def write_colours(folder: Path) -> Path:
    x = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "colours.npz", x=x, y=np.arange(40) % 4)
    return folder / "colours.npz"


def write_grays(folder: Path) -> Path:
    x = np.random.default_rng(0).random((40, 64, 64))
    y = np.array(["cat", "dog"])[np.arange(40) % 2]
    np.savez(folder / "grays.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    return folder / "grays.npz"


def write_npy(folder: Path) -> dict[str, object]:
    x = np.random.default_rng(0).integers(0, 256, (40, 3, 24, 32), dtype=np.uint8)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", np.arange(40) % 2)
    return {"data.path": str(folder / "x.npy"), "data.labels_path": str(folder / "y.npy")}


def write_pictures(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(40):
        noise = rng.integers(0, 256, (20 + number, 50, 3), dtype=np.uint8)
        class_folder = folder / "pictures" / ("cat", "dog")[number % 2]
        class_folder.mkdir(parents=True, exist_ok=True)
        mode, suffix = [("RGB", "jpg"), ("L", "png"), ("RGBA", "png"), ("P", "png"), ("L", "jpg")][number % 5]
        Image.fromarray(noise).convert(mode).save(class_folder / f"{number}.{suffix}")
    return folder / "pictures"


@pytest.mark.parametrize(
    ("recipe", "write", "val_and_test"),
    [
        ("arrays", write_colours, (4, 8)),
        ("arrays", write_grays, (3, 10)),
        ("image_folder", write_pictures, (4, 8)),
    ],
)
def test_own_images_train_to_the_end(
    recipe: str, write: Callable[[Path], Path], val_and_test: tuple[int, int], tmp_path: Path, scratch_store: Store
) -> None:
    overrides = {"data.path": str(write(tmp_path)), "data.root": str(tmp_path)}
    overrides |= {"trainer.max_epochs": 1, "trainer.threads": 1}
    result = run(load_config(recipe, overrides), store=scratch_store)
    assert result.outcome == "finished"
    assert 0 <= result.metrics["test/accuracy"] <= 1
    folder = Path(result.artifact_uri.removeprefix("file://"))
    with np.load(folder / "predictions.npz") as predictions:
        assert (len(predictions["val_label"]), len(predictions["test_label"])) == val_and_test


def test_a_run_is_the_same_whether_its_images_are_on_disk_or_in_memory(tmp_path: Path, scratch_store: Store) -> None:
    """But for their order; so here the rate is 0, and every epoch scores the same weights."""
    overrides = write_npy(tmp_path) | {"trainer.max_epochs": 1, "trainer.threads": 1, "optimizer.lr": 1e-30}
    scores = []
    for in_memory_mb in (0, 1):
        result = run(load_config("arrays", overrides | {"data.in_memory_mb": in_memory_mb}), store=scratch_store)
        tags = scratch_store.client.get_run(result.run_id).data.tags
        scores.append((tags["workbench.data_sha256"], result.metrics["val/loss"], result.metrics["test/loss"]))
    assert scores[0] == scores[1]
