"""Dotted paths: where they are looked for, what they may name, and which arguments are refused."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_modules import InputError, plug
from lightning_modules.plug import Plug, find

CODE = """
class Part:
    def __init__(self, size, *, depth=1):
        self.size, self.depth = size, depth

    @classmethod
    def small(cls, depth=1):
        return cls(1, depth=depth)

def apply(first, second, factor=2):
    return factor * (first + second)
"""


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Undoes imports and searched folders; the working directory is an empty folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(plug, "_recipe_folders", [])
    yield
    for name in [name for name in sys.modules if name.startswith("wb_part")]:
        del sys.modules[name]


def write(path: Path, code: str = CODE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    return path


def part(path: str, **args: object) -> Plug:
    return Plug("model.thing", path, args, "model.thing_args")


def test_the_recipe_s_folder_comes_before_the_working_directory(tmp_path: Path) -> None:
    write(tmp_path / "recipe" / "wb_part_both.py", "here = 'recipe'\n")
    write(tmp_path / "work" / "wb_part_both.py", "here = 'work'\n")
    write(tmp_path / "work" / "wb_part_work.py", "here = 'work'\n")
    plug.search_folders([tmp_path / "recipe"])
    assert find("f", "wb_part_both.here") == "recipe"
    assert find("f", "wb_part_work.here") == "work"
    assert plug.searched_folders() == [tmp_path / "recipe"]


def test_two_files_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    for name in ("first", "copy", "second"):
        write(tmp_path / name / "wb_part_same.py", CODE + ("again = 1\n" if name == "second" else ""))
    plug.search_folders([tmp_path / "first"])
    find("f", "wb_part_same.Part")
    plug.search_folders([tmp_path / "copy"])
    find("f", "wb_part_same.Part")
    plug.search_folders([tmp_path / "second"])
    with pytest.raises(InputError, match=r"first/wb_part_same\.py has the same name and is imported already.*rename"):
        find("f", "wb_part_same.Part")


def test_a_path_may_lead_into_packages_and_classes(tmp_path: Path) -> None:
    write(tmp_path / "work" / "wb_part_package" / "__init__.py", "")
    write(tmp_path / "work" / "wb_part_package" / "inner.py")
    assert part("wb_part_package.inner.Part.small", depth=3).make().depth == 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Part", "is not a dotted path"),
        ("wb_part.", "is not a dotted path"),
        ("../wb_part.Part", "is not a dotted path"),
        ("__main__.Part", "is in the script or notebook itself, .*move it to a file, .*and write my_file.Part"),
        ("wb_part.__main__.Part", "has a name that begins with __"),
        ("os.system", "is part of Python's own library"),
        ("wb_part_nowhere.Part", "cannot be imported: ModuleNotFoundError"),
        ("wb_part_broken.Part", "cannot be imported: ZeroDivisionError: division by zero"),
        ("wb_part_here.Prat", "wb_part_here has no 'Prat' .*did you mean 'Part'"),
        ("wb_part_here.Part.smal", "Part has no 'smal' .*did you mean 'small'"),
        ("wb_part_here.number", "is neither a class nor a function"),
    ],
)
def test_a_wrong_path_is_refused(path: str, message: str) -> None:
    write(Path("wb_part_here.py"), CODE + "number = 3\n")
    write(Path("wb_part_broken.py"), "1 / 0\n")
    with pytest.raises(InputError, match=rf"^model\.thing: {message}"):
        _ = part(path).target


def test_what_is_offered_is_given_where_it_is_named() -> None:
    write(Path("wb_part_here.py"))
    made = part("wb_part_here.Part", depth=4).make({"size": 7, "colour": "red"})
    assert (made.size, made.depth) == (7, 4)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"size": 1, "dept": 2}, r"model\.thing_args\.dept: wb_part_here\.Part has no such argument .*'depth'\?"),
        ({"depth": 2}, r"model\.thing_args\.size: is missing: wb_part_here\.Part needs it"),
    ],
)
def test_wrong_arguments_are_refused_before_the_call(args: dict[str, object], message: str) -> None:
    write(Path("wb_part_here.py"))
    with pytest.raises(InputError, match=f"^{message}"):
        part("wb_part_here.Part", **args).check()


def test_a_function_gets_its_inputs_when_it_is_used() -> None:
    write(Path("wb_part_here.py"))
    named = part("wb_part_here.apply", factor=5)
    named.check(inputs=2)
    assert named.function()(1, 2) == 15
    with pytest.raises(InputError, match=r"^model\.thing_args\.first: wb_part_here\.apply has no such argument"):
        part("wb_part_here.apply", first=1).check(inputs=2)


@pytest.mark.parametrize("entry", [3, {"args": {}}, {"kind": "a.b", "arg": {}}, {"kind": "a.b", "args": 3}])
def test_an_entry_that_is_no_part_is_refused(entry: object) -> None:
    with pytest.raises(InputError, match=r"^trainer\.callbacks\[0\]: is not a part .*write my_file\.Part"):
        Plug.parse("trainer.callbacks[0]", entry)
