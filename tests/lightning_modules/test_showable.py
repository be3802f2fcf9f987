"""Text from outside, as it is shown: nothing in it can act on a terminal, a picture, a page or a description."""

import logging

import pytest

from experiments.process.setup import prepare_process
from lightning_modules import InputError
from lightning_modules.log import LOG
from lightning_modules.showable import in_markdown, in_picture, is_text, showable, showable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("naïve 猫 👩\u200d🔬", "naïve 猫 👩\u200d🔬"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("invoice\u202egnp.exe", r"invoice\u202egnp.exe"),
        ("a\u2066b\u2069\u200f\u061c", r"a\u2066b\u2069\u200f\u061c"),
        ("two\nlines\r\u2028\x85", r"two\nlines\r\u2028\x85"),
        ("caf\udce9 \ud800", r"caf\udce9 \ud800"),
        ("\ufeffx\x00\x7f\x9b", r"\ufeffx\x00\x7f\x9b"),
    ],
)
def test_what_could_act_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert showable(text) == shown
    assert showable(shown) == shown


def test_a_long_text_is_cut_and_its_length_is_told() -> None:
    assert showable("a" * 100_000, 5) == "aaaaa… (100,000 characters)"
    assert showable("a" * 5, 5) == "aaaaa"


def test_lines_stay_lines() -> None:
    assert showable_lines("a\tb\r\n\x1bc\n") == "a   b\n\\x1bc\n"


def test_a_picture_shows_dollars_and_no_formula() -> None:
    assert in_picture(r"$\frac{$ a") == r"\$\frac{\$ a"
    assert in_picture("a" * 41) == "a" * 40 + "…"


def test_a_description_shows_markup() -> None:
    text = "<img src=x onerror=alert(1)> [a](javascript:b) ![c](d) | *e* `f` \n# g"
    assert in_markdown(text) == (
        r"&lt;img src=x onerror=alert(1)&gt; [a]\(javascript:b) ![c]\(d) \| \*e\* \`f\` \\n# g"
    )
    assert in_markdown("test accuracy 0.9812 [0.9790, 0.9834]") == "test accuracy 0.9812 [0.9790, 0.9834]"


def test_text_has_no_nul_and_no_half_of_a_pair() -> None:
    assert is_text("猫\x1b\n")
    assert not is_text("a\0")
    assert not is_text("\ud83d")


def test_an_error_is_one_line_of_bounded_length() -> None:
    error = InputError("data.\x1bpath", "\u202e" + "x" * 10**6, "two\nlines", "do\nthis")
    assert str(error).startswith(r"data.\x1bpath: two\nlines (got '\u202exxx")
    assert str(error).endswith(r"… (1,000,008 characters)); do\nthis")
    assert len(str(error)) < 500
    assert error.value == "\u202e" + "x" * 10**6


def test_a_message_of_the_log_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    prepare_process()
    LOG.log(logging.WARNING, "reading a\nb\x1b[2J")
    assert capsys.readouterr().err == "reading a\\nb\\x1b[2J\n"
