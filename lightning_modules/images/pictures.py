"""One picture file as an array. Files may hold anything: nothing but `PictureError` is raised."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_LARGEST = Image.MAX_IMAGE_PIXELS or 89_478_485  # pixels; Pillow's own bound for what may be a decompression bomb


class PictureError(ValueError):
    """Why a file is no picture that can be used, in one line."""


def decode(path: Path, size: tuple[int, int] | None, channels: int) -> NDArray[np.uint8]:
    """The first frame of a picture as (H, W, `channels`), upright as its EXIF says, resized to `size` (H, W).

    Resizing is bilinear over all pixels that a new one covers, and keeps no proportions. 16-bit gray is scaled to
    8 bits; what is transparent is laid on black. Raises PictureError.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > _LARGEST:
                raise PictureError(f"is {picture.width}×{picture.height} pixels, more than {_LARGEST:,}")
            flat = _eight_bits(ImageOps.exif_transpose(picture), "L" if channels == 1 else "RGB")
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"is more than {_LARGEST:,} pixels large: a decompression bomb?") from error
    except Exception as error:  # Pillow's decoders raise all kinds of errors on damaged files
        raise PictureError(f"is damaged: {' '.join(str(error).split()) or type(error).__name__}") from error
    if size is not None and (flat.height, flat.width) != size:
        flat = flat.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(flat).reshape(flat.height, flat.width, channels)


@contextmanager
def quiet() -> Iterator[None]:
    """Pillow warns of nothing, and a likely decompression bomb is an error; in all threads of the process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _eight_bits(picture: Image.Image, mode: str) -> Image.Image:
    """In mode L or RGB, whatever mode it was stored in."""
    if picture.mode.startswith("I;16"):
        wide = np.asarray(picture, np.uint32)
        return Image.fromarray(((wide * 255 + 32_767) // 65_535).astype(np.uint8)).convert(mode)
    if picture.mode in {"I", "F"}:
        raise PictureError("has 32 bits a pixel, of no known range; store it with 8 or 16 bits, or use source arrays")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        black: Any = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture)
    return picture.convert(mode)
