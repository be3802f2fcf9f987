"""How sections of the configuration are declared: types and bounds are checked, however an instance is made."""

import math
import pickle
from dataclasses import FrozenInstanceError, asdict, field, fields, replace
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from lightning_modules import InputError, OptimizerConfig, ScheduleConfig
from lightning_modules.config import Count, Decay, Share, check_settings, section


@section("top.inner")
class Inner:
    share: Share = 0.25
    decay: Decay | None = None
    size: Count | Literal["full"] = 32
    chunk: Count | Literal["auto"] = "auto"
    steps: Annotated[int, Field(ge=2, examples=[5])] | None = None
    channels: Literal[1, 3] | None = None
    kind: Literal["sgd", "adam"] = "sgd"
    names: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.steps == self.size:
            raise InputError("top.inner.steps", self.steps, "is the size", "give another")
        assert self.share != self.decay


@section("top")
class Top:
    name: str
    flag: bool = False
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"share": 0}, "top.inner.share: must be above 0 and at most 1 (got 0); try 0.25"),
        ({"share": math.nan}, "top.inner.share: must be finite (got nan); try 0.25"),
        ({"share": -math.inf}, "top.inner.share: must be finite (got -inf); try 0.25"),
        ({"share": "0.5"}, "top.inner.share: has the wrong type (got '0.5'); give a number"),
        ({"share": True}, "top.inner.share: has the wrong type (got True); give a number"),
        ({"share": None}, "top.inner.share: must not be null (got None); give a number, or leave the field out"),
        ({"decay": 1}, "top.inner.decay: must be 0 or more and below 1, or null (got 1); try 0.9"),
        ({"size": 0}, "top.inner.size: must be 1 or more and at most 1,000,000,000, or full (got 0); try 32"),
        ({"size": "half"}, "top.inner.size: has the wrong type (got 'half'); give an integer, or full"),
        ({"size": True}, "top.inner.size: has the wrong type (got True); give an integer, or full"),
        ({"chunk": 0}, "top.inner.chunk: must be 1 or more and at most 1,000,000,000, or auto (got 0); try auto"),
        ({"steps": 1}, "top.inner.steps: must be 2 or more, or null (got 1); try 5"),
        ({"steps": 2.0}, "top.inner.steps: has the wrong type (got 2.0); give an integer, or null"),
        ({"channels": 2}, "top.inner.channels: no such choice (got 2); choose from 1, 3"),
        ({"kind": "sdg"}, "top.inner.kind: no such choice (got 'sdg'); did you mean 'sgd'? choose from adam, sgd"),
        ({"names": ["a", 1]}, "top.inner.names: has the wrong type (got ['a', 1]); give a list, each item text"),
        ({"options": [1]}, "top.inner.options: has the wrong type (got [1]); give a mapping"),
        ({"steps": 8, "size": 8}, "top.inner.steps: is the size (got 8); give another"),
        ({"share": 0, "steps": 1}, "top.inner.share: must be above 0 and at most 1 (got 0); try 0.25"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_the_way_out(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        Inner(**given)
    assert str(caught.value) == words
    assert caught.value.field == f"top.inner.{next(iter(given))}"
    with pytest.raises(InputError) as replaced:
        replace(Inner(), **given)
    assert str(replaced.value) == words


def test_a_class_in_place_of_its_path_is_told_what_to_write() -> None:
    class Net:
        __module__, __qualname__ = "__main__", "Net"  # as in a notebook

    for given, words in {
        Net: "move it to a file, such as my_file.py, and write my_file.Net",
        Inner: "write .*Inner",
    }.items():
        with pytest.raises(InputError, match=rf"^top\.name: is an object, and a config holds text .*; {words}$"):
            Top(name=given)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=rf"^top\.inner\.names: is an object, .*; {words}$"):
            Inner(names=["a", given])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "top.name: is missing (got None); give text"),
        ({"name": "a", "falg": True}, "top.falg: no such field (got True); did you mean 'top.flag'?"),
        ({"name": "a", "flag": 1}, "top.flag: has the wrong type (got 1); give true or false"),
        ({"name": "a", "inner": {"share": 1}}, "top.inner: has the wrong type (got {'share': 1}); give Inner"),
    ],
)
def test_missing_and_unknown_fields_and_sections_of_another_type_are_told(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        Top(**given)
    assert str(caught.value).startswith(words)


def test_a_float_field_takes_a_whole_number_as_a_float() -> None:
    taken = Inner(share=1).share
    assert (taken, type(taken)) == (1.0, float)


def test_a_failed_assertion_stays_one() -> None:
    with pytest.raises(AssertionError):
        Inner(share=0.5, decay=0.5)


def test_a_section_is_a_frozen_dataclass() -> None:
    made = OptimizerConfig(lr=0.5, schedule=ScheduleConfig(kind="cosine"))
    assert [each.name for each in fields(OptimizerConfig)][:2] == ["kind", "lr"]
    assert asdict(made)["schedule"]["kind"] == "cosine"
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(FrozenInstanceError):
        made.lr = 0.1  # type: ignore[misc]
    with pytest.raises(TypeError):
        OptimizerConfig("adam")  # type: ignore[misc]


def test_a_setting_that_the_kind_does_not_take_is_told_with_the_kinds_that_do() -> None:
    settings = {"sgd": {"steps"}, "adam": {"decay", "steps"}}
    check_settings("top.inner", Inner(kind="adam", decay=0.9, steps=3), settings)
    with pytest.raises(InputError) as caught:
        check_settings("top.inner", Inner(decay=0.0), settings)
    remedy = "set it to null, or choose top.inner.kind from adam"
    assert str(caught.value) == f"top.inner.decay: is not a setting of sgd (got 0.0); {remedy}"
