"""Values that are computed once on a machine."""

import time
from hashlib import sha256
from pathlib import Path

import pytest

from lightning_modules.images.remembered import known_sha256, remembered


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "lightning-workbench" / "remembered"


def refuse() -> str:
    pytest.fail("computed a second time")


@pytest.mark.parametrize("value", ["", "one line", "two\nlines\r\n", "naïve"])
def test_a_value_is_computed_once_for_each_key(value: str) -> None:
    assert remembered("a", lambda: value) == value
    assert remembered("a", refuse) == value
    assert remembered("b", lambda: "another") == "another"


@pytest.mark.parametrize("damaged", [b"", b"\xff\xfe", b"right", b"0" * 64 + b"\nright"])
def test_a_damaged_value_is_computed_again(cache: Path, damaged: bytes) -> None:
    remembered("a", lambda: "right")
    (kept,) = cache.iterdir()
    kept.write_bytes(damaged)
    assert remembered("a", lambda: "again") == "again"
    assert remembered("a", refuse) == "again"


def test_without_a_folder_that_can_be_written_it_is_computed_every_time(tmp_path: Path) -> None:
    (tmp_path / "lightning-workbench").write_text("a file")
    assert [remembered("a", lambda: "1"), remembered("a", lambda: "2")] == ["1", "2"]


def test_the_hash_of_a_file_is_kept_once_its_last_change_is_some_seconds_ago(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, expected = tmp_path / "file", sha256(b"content").hexdigest()
    file.write_bytes(b"content")
    assert known_sha256(file) == expected
    assert not cache.exists()
    later = time.time() + 5
    monkeypatch.setattr("time.time", lambda: later)
    assert known_sha256(file) == expected
    monkeypatch.setattr("lightning_modules.images.remembered.file_sha256", lambda _: refuse())
    assert known_sha256(file) == expected
