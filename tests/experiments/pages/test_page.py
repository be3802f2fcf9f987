"""A page is one file that may load nothing and run nothing but its own script, whatever texts it shows."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from experiments.pages.page import band, path, render
from tests.svg import read_page

TEMPLATE = (
    '{% extends "page.html" %}{% block title %}{{ name }}{% endblock %}{% block main %}<p>{{ name }}</p>{% endblock %}'
)


@pytest.fixture
def template(tmp_path: Path) -> Path:
    (tmp_path / "mine.html").write_text(TEMPLATE)
    return tmp_path / "mine.html"


def test_the_policy_allows_the_page_s_own_style_and_script_alone(template: Path) -> None:
    page = render(template, {"a": 1}, name="mine")
    (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.split(" ", 1) for rule in policy.replace("&#39;", "'").split("; "))
    for kind, tag in (("style-src", "style"), ("script-src", "script")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules.pop(kind) == f"'sha256-{digest}'"
    assert rules == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    assert " style=" not in page
    assert not re.search(r"\son\w+=", page)


def test_a_template_s_own_style_is_added_and_its_script_takes_the_place_of_ours(template: Path) -> None:
    template.with_suffix(".css").write_text("p { color: teal }")
    template.with_suffix(".js").write_text("fetch('/there')")
    page = render(template, {}, connects=True, name="mine")
    (style,), (script,) = (re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("style", "script"))
    assert style.endswith("p { color: teal }")
    assert "--ink" in style
    assert script == "fetch('/there')"
    assert "connect-src &#39;self&#39;" in page
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in page


def test_texts_are_shown_as_they_are_and_cannot_act(template: Path) -> None:
    name = "</script><script>alert(1)</script>\u202e\x1b[31m & $x$"
    page = render(template, {"name": name}, name=name)
    shown = read_page(page)
    assert "</script><script>alert(1)</script>\\u202e\\x1b[31m & $x$" in shown.text
    assert page.count("<script") == 2  # the data and the page's own
    assert json.loads(shown.data)["name"] == name


def test_lines_and_bands_are_paths_in_a_box_whose_origin_is_above() -> None:
    assert path([(0, 0), (0.5, 1), (1, 0.25)]) == "M0 1000L500 0L1000 750"
    assert band([(0, 0), (1, 0)], [(0, 1), (1, 0.5)]) == "M0 1000L1000 1000L1000 500L0 0Z"
