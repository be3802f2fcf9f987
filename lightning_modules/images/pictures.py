"""Decodes one picture file into an array. For any content of the file, only `PictureError` can be raised.

A failure of the machine, such as a disk that cannot be read, is an OSError or a MemoryError.
"""

import errno
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}  # of file names, in small letters
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
LARGEST = Image.MAX_IMAGE_PIXELS or 89_478_485  # pixels; Pillow's own limit against decompression bombs
_BOMB_BYTES, _BOMB_RATIO = 2**26, 200  # a picture that unpacks to more than both is refused; JPEG reaches 130
_LARGE = 2**24  # pixels; of such pictures one is decoded at a time
_BITS = {"1": 1, "L": 8, "P": 8, "LA": 16, "PA": 16, "I;16": 16, "RGB": 24, "YCbCr": 24}  # of a pixel in the file
_one_large = Lock()


class PictureError(ValueError):
    """Says in one line why a file is not a usable picture."""


def decode(
    file: Path | bytes, size: tuple[int, int] | None, channels: int, most_pixels: int = LARGEST
) -> NDArray[np.uint8]:
    """Returns the first frame of a picture as (H, W, `channels`), turned as its EXIF says, resized to `size` (H, W).

    `file`: its path, or its bytes. Resizing is bilinear over all pixels that a new pixel covers, and does not keep
    proportions. 16-bit gray is scaled to 8 bits. Transparent pixels are blended with black. Raises PictureError.
    """
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    with _errors_of_pillow(), Image.open(source, formats=FORMATS) as picture:
        pixels = picture.width * picture.height
        if pixels > most_pixels:
            raise PictureError(f"is {picture.width}×{picture.height} pixels, more than {most_pixels:,}")
        unpacked = pixels * _BITS.get(picture.mode, 32) // 8
        packed = len(file) if isinstance(file, bytes) else file.stat().st_size
        if unpacked > max(_BOMB_BYTES, _BOMB_RATIO * packed):
            raise PictureError(f"unpacks from {packed:,} bytes to {unpacked:,}: a decompression bomb?")
        with _one_large if pixels > _LARGE else nullcontext():
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            flat = _eight_bits(picture, "L" if channels == 1 else "RGB")
    if size is not None and (flat.height, flat.width) != size:
        flat = flat.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(flat).reshape(flat.height, flat.width, channels)


def count_pixels(file: bytes) -> int:
    """Returns how many pixels a picture has, as its header says. Raises PictureError."""
    with _errors_of_pillow(), Image.open(io.BytesIO(file), formats=FORMATS) as picture:
        return picture.width * picture.height


@contextmanager
def _errors_of_pillow() -> Iterator[None]:
    """Turns whatever Pillow raises into PictureError, but for failures of the machine."""
    try:
        yield
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"is not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"has more than {LARGEST:,} pixels: a decompression bomb?") from error
    except Exception as error:  # Pillow's decoders raise all kinds of errors on damaged files
        if _is_of_the_machine(error):
            raise
        raise PictureError(f"is damaged: {' '.join(str(error).split()) or type(error).__name__}") from error


def _is_of_the_machine(error: Exception) -> bool:
    """Whether an error may be gone at the next attempt: too little memory, too many open files, a disk that is away.

    A damaged file gives an OSError without a number, or EINVAL if it points to a place that no file can have. A file
    that may not be read is refused as well.
    """
    of_the_file = (None, errno.EINVAL, errno.EACCES, errno.EPERM)
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno not in of_the_file)


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Pillow's warnings, but turns a likely decompression bomb into an error. Affects all threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _eight_bits(picture: Image.Image, mode: str) -> Image.Image:
    """Converts a picture from any mode to `mode`, L or RGB."""
    if picture.mode.startswith("I;16"):
        wide = np.asarray(picture, np.uint32)
        return Image.fromarray(((wide * 255 + 32_767) // 65_535).astype(np.uint8)).convert(mode)
    if picture.mode in {"I", "F"}:
        raise PictureError("has 32 bits per pixel of unknown range; store it with 8 or 16 bits, or use source arrays")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        black: Any = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture)
    return picture if picture.mode == mode else picture.convert(mode)
