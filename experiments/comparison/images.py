"""Shows the images on which two runs disagree, read from the data of the first run, if they have not changed."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.comparison.differences import Recorded
from experiments.results.artifacts import Artifacts
from experiments.results.run_images import read_split

_DARK = 64  # a picture without a brighter value has another range than 0 to 255


def images_of(artifacts: Artifacts, recorded: Recorded, split: str, indices: list[int]) -> list[str]:
    """Returns images of a run's split as data URLs of PNG files. Raises NoImages."""
    subset = read_split(artifacts, recorded.run, recorded.provenance, split)
    return [_as_url(np.asarray(subset.images[index])) for index in subset.indices[indices]]


def _as_url(image_HWC: NDArray[Any]) -> str:
    """Returns an image (H, W, C) as a data URL. Floats and dark pictures are stretched to the whole range."""
    if image_HWC.dtype != np.uint8 or image_HWC.max() < _DARK:
        low, high = float(np.nanmin(image_HWC)), float(np.nanmax(image_HWC))
        image_HWC = (255 * np.nan_to_num((image_HWC - low) / ((high - low) or 1))).astype(np.uint8)
    if image_HWC.shape[-1] not in (1, 3):
        image_HWC = image_HWC[..., :1]
    file = io.BytesIO()
    Image.fromarray(image_HWC.squeeze(-1) if image_HWC.shape[-1] == 1 else image_HWC).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
