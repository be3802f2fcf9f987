"""Pictures with a palette look as before."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from experiments.pictures.small_png import save_small, with_palette


def test_a_drawing_is_less_than_half_as_large_and_white_paper_stays_white(tmp_path: Path) -> None:
    for name in ("large", "small"):
        figure = Figure(figsize=(9, 3.6))
        axes = figure.subplots()
        axes.plot(np.sin(np.arange(100) / 9), marker=".", label="train")
        axes.legend()
        save = save_small if name == "small" else lambda figure, path, dpi: figure.savefig(path, dpi=dpi)
        save(figure, tmp_path / f"{name}.png", dpi=100)
    large, small = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in ("large", "small"))
    assert small.shape == large.shape == (360, 900, 3)
    assert (tmp_path / "small.png").stat().st_size < (tmp_path / "large.png").stat().st_size / 2
    changed = (small != large).any(axis=2)
    assert changed.mean() < 0.01  # pixels at the edges of lines alone
    assert (small[large.min(axis=2) == 255] == 255).all()


def test_256_colours_are_exact_and_photographs_keep_all_of_theirs() -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert np.array_equal(np.asarray(with_palette(Image.fromarray(gray)).convert("RGB")), gray)
    photograph = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    assert np.array_equal(np.asarray(with_palette(Image.fromarray(photograph))), photograph)


def test_of_many_colours_the_rare_ones_become_their_nearest() -> None:
    pixels = np.zeros((2, 257, 3), np.uint8)
    pixels[:, :256, 0] = np.arange(256)
    pixels[1, 256] = (10, 0, 9)  # once; every other colour twice or more
    found = np.asarray(with_palette(Image.fromarray(pixels)).convert("RGB"))
    assert found[1, 256].tolist() == [10, 0, 0]
    assert np.array_equal(found[:, :256], pixels[:, :256])
