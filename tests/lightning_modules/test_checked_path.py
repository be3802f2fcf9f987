"""Paths that no file can have are refused before Python looks for them."""

from pathlib import Path

import pytest

from experiments import load_config
from lightning_modules import InputError
from lightning_modules.checked_path import checked_path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x" * 256, "is longer than any path"),
        ("猫" * 86, "is longer than any path"),  # 258 bytes
        ("x/" * 2_048, "is longer than any path"),
        ("a\0b", "is no path that a record can hold"),
        ("caf\udce9.npz", "is no path that a record can hold"),
    ],
)
def test_a_path_that_no_file_can_have_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^data\.path: {message}"):
        checked_path("data.path", text)
    with pytest.raises(InputError, match=rf"^data\.path: {message}"):
        load_config("arrays", {"data.path": text})
    with pytest.raises(InputError, match=rf"^RECIPE: {message}"):
        load_config(text)


def test_any_other_path_is_kept() -> None:
    for text in ("", "x" * 255, "/a/../猫 \x1b.npz", "x/" * 2_047):
        assert checked_path("data.path", text) == Path(text)
