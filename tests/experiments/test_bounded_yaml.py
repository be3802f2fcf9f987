"""YAML that somebody else wrote: some aliases are read, and what would hang or crash is refused, with its place."""

from pathlib import Path
from typing import Any

import pytest

from experiments import load_config
from experiments.bounded_yaml import BadYaml, read_yaml
from experiments.recipe import parse_overrides, read_recipe
from lightning_modules import InputError


def anchors(levels: int, kind: str) -> str:
    """Ten values, each of which repeats the one before ten times: 10 ** levels values."""
    lines = ["a0: &a0 [x]" if kind == "list" else "a0: &a0 {x: 1}"]
    for level in range(1, levels):
        before = f"*a{level - 1}"
        bodies = {
            "list": f"[{', '.join([before] * 10)}]",
            "mapping": "{" + ", ".join(f"k{key}: {before}" for key in range(10)) + "}",
            "merge": "{<<: [" + ", ".join([before] * 10) + "]}",
        }
        lines.append(f"a{level}: &a{level} {bodies[kind]}")
    return "\n".join(lines)


@pytest.mark.parametrize("kind", ["list", "mapping", "merge"])
def test_ten_levels_of_aliases_are_refused_at_the_sixth(kind: str) -> None:
    with pytest.raises(BadYaml, match=r"^more than 50,000 values, counted as often as aliases repeat them, line 6, "):
        read_yaml(anchors(10, kind))


def test_a_long_text_that_aliases_repeat_is_refused() -> None:
    text = f"a: &a {'x' * 900_000}\nb: [" + ", ".join(["*a"] * 1_000) + "]"  # 900 MB, if it was written
    with pytest.raises(BadYaml, match=r"^more than 50,000 values, .*, line 2, column 21$"):
        read_yaml(text)
    assert read_yaml(f"a: {'x' * 900_000}") == {"a": "x" * 900_000}


def test_aliases_and_merges_are_read() -> None:
    text = "base: &base {lr: 1e-3, sizes: [1, 2]}\none: *base\ntwo: {<<: *base, lr: 0.1}"
    base: dict[str, Any] = {"lr": 0.001, "sizes": [1, 2]}
    assert read_yaml(text) == {"base": base, "one": base, "two": base | {"lr": 0.1}}
    assert set(read_yaml(anchors(3, "list"))) == {"a0", "a1", "a2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: " + "[" * 5_000 + "]" * 5_000, "more than 50 values inside each other, line 1, column 56"),
        ("seed: " + "{a: " * 3_000 + "1" + "}" * 3_000, "more than 50 values inside each other, line 1, column 200"),
        ("a: &m {b: *m}", "a value that contains itself, line 1, column 11"),
        ("- &m [*m]", "a value that contains itself, line 1, column 7"),
        ("experiment: 2024-13-45", r"'2024-13-45' is not a value \(month must be in 1\.\.12; .*, line 1, column 13"),
        (
            "seed: " + "9" * 5_000,
            r"'9{20}… \(5,000 characters\)' is not a value \(Exceeds .*, line 1, column 7",
        ),
        ("a: 1\n2: 3", r"the key 2 is not text \(write it in quotes\), line 1, column 1"),
        ("? [1, 2]\n: 3", "while constructing a mapping, found unhashable key, line 1, column 3"),
        ('a: "\\uD800"', "a text with NUL or half of a surrogate pair, .*, line 1, column 4"),
        ('a: "\\0"', "a text with NUL or half of a surrogate pair, .*, line 1, column 4"),
        ("a: \udcff", r"the character '\\udcff', at position 3"),
        ("!!python/object:os.system x", "could not determine a constructor for the tag .*, line 1, column 1"),
        ("x" * 1_000_001, "it has more than 1,000,000 characters"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(BadYaml, match=f"^{message}$"):
        read_yaml(text)


def test_a_recipe_of_anchors_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "laughs.yaml").write_text(anchors(10, "list"))
    with pytest.raises(InputError, match=r"^RECIPE: cannot be read as YAML: more than 50,000 .*; fix the file$"):
        load_config(str(tmp_path / "laughs.yaml"))


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(2**33)  # sparse; its zero bytes are UTF-8
    with pytest.raises(InputError, match="it has more than 1,000,000 characters"):
        read_recipe(tmp_path / "large.yaml")


def test_an_override_is_read_within_the_same_bounds() -> None:
    with pytest.raises(InputError, match=r"^seed: is not a YAML value: found undefined alias 'a', line 1, column 1"):
        parse_overrides(["--seed", "*a"])
    with pytest.raises(InputError, match=r"^a\.a\.a.*: no such field"):
        load_config("digits", {"a." * 3_000 + "a": 1})
