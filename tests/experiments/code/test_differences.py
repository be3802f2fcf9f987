"""Where several copies of the code differ."""

from pathlib import Path

import pytest

from experiments.code.differences import CodeDifference, Lines, code_differences


def folders(tmp_path: Path, *texts: str | None) -> list[Path]:
    """Folders that hold `net.py` with these letters as its lines; without the file where it is None."""
    made = []
    for number, text in enumerate(texts):
        made.append(tmp_path / str(number))
        made[-1].mkdir()
        if text is not None:
            (made[-1] / "net.py").write_text("".join(f"{letter}\n" for letter in text))
    return made


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["abc", "abc"], []),
        (["abc", "axc"], [[(2, "b"), (2, "x")]]),
        (["abc", "xyabc"], [[(1, ""), (1, "xy")]]),
        (["abc", "ab"], [[(3, "c"), (3, "")]]),
        (["abcde", "xbcdy"], [[(1, "a"), (1, "x")], [(5, "e"), (5, "y")]]),
        (["abcde", "axyzcde", "abcdx"], [[(2, "b"), (2, "xyz"), (2, "b")], [(5, "e"), (7, "e"), (5, "x")]]),
        (["abcde", "axxde", "abyye"], [[(2, "bcd"), (2, "xxd"), (2, "byy")]]),
    ],
)
def test_a_place_holds_the_lines_of_every_copy(
    tmp_path: Path, texts: list[str], found: list[list[tuple[int, str]]]
) -> None:
    wanted = [CodeDifference("net.py", tuple(Lines(first, tuple(text)) for first, text in place)) for place in found]
    assert list(code_differences(folders(tmp_path, *texts))) == wanted


def test_a_file_that_some_copies_lack_is_one_place(tmp_path: Path) -> None:
    (place,) = code_differences(folders(tmp_path, "abc", None, "abd"))
    assert [lines is None for lines in place.copies] == [False, True, False]
