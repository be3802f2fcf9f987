"""Numbers are taken as pixels of another type only if none of them changes."""

import numpy as np
import pytest

from lightning_modules.images.layout import ImagesError, in_type

BYTES, FLOATS = np.dtype(np.uint8), np.dtype(np.float32)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([0, 255]), BYTES),
        (np.array([0.0, 7.0, 255.0]), BYTES),
        (np.array([True, False]), BYTES),
        (np.array([0, 255], np.uint8), FLOATS),
        (np.array([-1.5, np.finfo(np.float32).max]), FLOATS),
    ],
)
def test_values_that_the_type_has_stay_as_they_are(values: np.ndarray, kind: np.dtype) -> None:
    typed = in_type(values, kind)
    assert typed.dtype == kind
    assert typed.tolist() == values.tolist()


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (np.array([3, 256]), BYTES, "has the value 256; pixels are from 0 to 255"),
        (np.array([-1], np.int8), BYTES, "has the value -1; pixels are from 0 to 255"),
        (np.array([1.0, 0.5]), BYTES, "has the value 0.5; pixels are whole numbers"),
        (np.array([np.nan]), BYTES, "has the value nan; pixels are from 0 to 255"),
        (np.array([1.0, np.nan]), FLOATS, "has the value nan; pixels are from -3.4"),
        (np.array([-np.inf], np.float32), FLOATS, "has the value -inf; pixels are from -3.4"),
        (np.array([1e39]), FLOATS, r"has the value 1e\+39; pixels are from -3.4"),
    ],
)
def test_values_that_would_change_are_refused(values: np.ndarray, kind: np.dtype, message: str) -> None:
    with pytest.raises(ImagesError, match=f"^{message}"):
        in_type(values, kind)
