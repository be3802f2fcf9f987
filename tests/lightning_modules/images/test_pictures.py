"""One picture file as an array."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lightning_modules.images.pictures import PictureError, decode, quiet

GRADIENT = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_lossless_formats_give_every_pixel_as_it_is(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(GRADIENT).save(tmp_path / f"a.{suffix}")
    assert decode(tmp_path / f"a.{suffix}", None, 1)[..., 0].tolist() == GRADIENT.tolist()


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_formats_come_close(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(GRADIENT).save(tmp_path / f"a.{suffix}", quality=100)
    assert np.abs(decode(tmp_path / f"a.{suffix}", None, 1)[..., 0].astype(int) - GRADIENT).max() <= 3


def palette() -> Image.Image:
    picture = Image.new("P", (1, 1))
    picture.putpalette([10, 20, 30])
    return picture


@pytest.mark.parametrize(
    ("picture", "rgb"),
    [
        (Image.new("1", (1, 1), 1), [255, 255, 255]),
        (Image.new("L", (1, 1), 7), [7, 7, 7]),
        (Image.new("LA", (1, 1), (200, 0)), [0, 0, 0]),  # transparent: black
        (palette(), [10, 20, 30]),
        (Image.new("RGB", (1, 1), (1, 2, 3)), [1, 2, 3]),
        (Image.new("RGBA", (1, 1), (1, 2, 3, 255)), [1, 2, 3]),
        (Image.new("RGBA", (1, 1), (255, 255, 255, 0)), [0, 0, 0]),
        (Image.fromarray(np.array([[65_535]], np.uint16)), [255, 255, 255]),
        (Image.fromarray(np.array([[257 * 9]], np.uint16)), [9, 9, 9]),
    ],
)
def test_every_mode_becomes_rgb(picture: Image.Image, rgb: list[int], tmp_path: Path) -> None:
    picture.save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", None, 3).tolist() == [[rgb]]


def test_colours_become_gray_by_their_brightness(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (0, 255, 0)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", None, 1).tolist() == [[[150]]]  # 0.587 of 255: ITU-R 601


def test_resizing_averages_the_pixels_that_a_new_one_covers(tmp_path: Path) -> None:
    halves = np.repeat(np.array([[0, 100]], np.uint8), 32, axis=1).repeat(16, axis=0)
    Image.fromarray(halves).save(tmp_path / "a.png")
    resized = decode(tmp_path / "a.png", (2, 4), 1)[..., 0]
    assert resized.shape == (2, 4)
    assert (resized[:, 0].tolist(), resized[:, 3].tolist()) == ([0, 0], [100, 100])
    assert 0 < resized[0, 1] < resized[0, 2] < 100


def test_a_picture_is_turned_upright_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise
    Image.fromarray(np.array([[1, 2], [3, 4]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert decode(tmp_path / "a.png", None, 1)[..., 0].tolist() == [[3, 1], [4, 2]]


def png_that_declares(width: int, height: int) -> bytes:
    """A PNG of one row of pixels that says it has many."""

    def chunk(kind: bytes, contents: bytes) -> bytes:
        return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def tiff_with_pixels_at(offset: int) -> bytes:
    """A BigTIFF of 8×8 pixels that are said to be at a place in the file."""
    fields = [
        (256, 4, 8),
        (257, 4, 8),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 16, offset),
        (278, 4, 8),
        (279, 4, 64),
    ]
    entries = b"".join(struct.pack("<HHQQ", tag, kind, 1, value) for tag, kind, value in fields)
    return struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(fields)) + entries + bytes(8)


def saved(picture: NDArray[Any], kind: str, tmp_path: Path) -> bytes:
    Image.fromarray(picture).save(tmp_path / "whole", format=kind)
    return (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "is not a PNG, JPEG, TIFF, BMP or WEBP picture"),
        (b"GIF89a" + bytes(100), "is not a PNG"),
        (png_that_declares(10_000, 9_000), "a decompression bomb"),
        (png_that_declares(50_000, 50_000), "a decompression bomb"),
        (png_that_declares(100, 100), "is damaged"),
        (tiff_with_pixels_at(2**62), "is damaged: .* Invalid argument"),  # from lseek, as of a disk that fails
    ],
)
def test_a_file_that_is_no_picture_is_refused(contents: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(contents)
    with quiet(), pytest.raises(PictureError, match=message):
        decode(tmp_path / "a.png", (8, 8), 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_a_file_cut_short_is_refused(kind: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    contents = saved(noise, kind, tmp_path)
    (tmp_path / "a").write_bytes(contents[: len(contents) // 2])
    with quiet(), pytest.raises(PictureError, match=r"^is (damaged|not a PNG)"):
        decode(tmp_path / "a", None, 1)


def test_floats_without_a_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(PictureError, match="32 bits per pixel"):
        decode(tmp_path / "a.tif", None, 1)


def test_a_picture_that_unpacks_to_far_more_than_its_file_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (5_000, 5_000)).save(tmp_path / "a.png")  # 75 MB of zeros
    assert (tmp_path / "a.png").stat().st_size < 10**5
    with pytest.raises(PictureError, match=r"unpacks from [0-9,]+ bytes to 75,000,000: a decompression bomb\?"):
        decode(tmp_path / "a.png", (8, 8), 3)
    Image.new("1", (5_000, 5_000)).save(tmp_path / "page.png")  # such as a scanned page, of 3 MB
    assert decode(tmp_path / "page.png", (8, 8), 1).shape == (8, 8, 1)
