"""Images as data URLs, which a page holds itself."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DARK = 64  # images of bytes without a brighter value have another range than 0 to 255


def as_url(image_HWC: NDArray[Any], values: tuple[float, float] | None = None) -> str:
    """Returns an image (H, W, C) as the data URL of a PNG.

    `values`: what is shown as black and as white. Without them, floats and dark images are stretched to all of it.
    """
    if values or image_HWC.dtype != np.uint8 or image_HWC.max() < DARK:
        low, high = values or (float(np.nanmin(image_HWC)), float(np.nanmax(image_HWC)))
        image_HWC = (255 * np.nan_to_num((image_HWC - low) / ((high - low) or 1))).astype(np.uint8)
    if image_HWC.shape[-1] not in (1, 3):
        image_HWC = image_HWC[..., :1]
    file = io.BytesIO()
    Image.fromarray(image_HWC.squeeze(-1) if image_HWC.shape[-1] == 1 else image_HWC).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
