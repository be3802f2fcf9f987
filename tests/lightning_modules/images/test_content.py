"""What each image of an array holds."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lightning_modules.images.content import content_of


@settings(deadline=None)
@given(
    images=hnp.arrays(
        st.sampled_from(["uint8", "float32"]),
        st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3])),
        elements=st.integers(0, 2),
    )
)
def test_equal_images_have_equal_hashes_and_all_have_their_extremes(images: NDArray[Any]) -> None:
    content = content_of(images)
    for one in range(len(images)):
        for other in range(len(images)):
            if np.array_equal(images[one], images[other]):
                assert content.hashes[one] == content.hashes[other]
    assert content.low.tolist() == [image.min() for image in images]
    assert content.high.tolist() == [image.max() for image in images]
    assert content.is_whole


def test_images_in_many_chunks_and_any_memory_layout_hash_alike() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3000, 3, 40, 40), dtype=np.uint8)  # 14 MB
    turned = noise.transpose(0, 2, 3, 1)
    content = content_of(turned)
    np.testing.assert_array_equal(content.hashes, content_of(np.ascontiguousarray(turned)).hashes)
    assert len(np.unique(content.hashes)) == 3000


def test_nan_and_infinity_show_in_the_extremes() -> None:
    images = np.full((3, 2, 2, 1), 0.5, np.float32)
    images[0, 0, 0], images[1, 1, 1] = np.nan, -np.inf
    content = content_of(images)
    assert np.isfinite(content.low).tolist() == [False, False, True]
    assert not content.is_whole
