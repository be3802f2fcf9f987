"""What passes for a credential, and what does not."""

import html
import json
import logging
import sys
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest

from experiments.process import redaction
from experiments.process.redaction import (
    holds_credentials,
    is_secret_variable,
    know,
    know_words,
    redacted_streams,
    urls_without_credentials,
    without_credentials,
)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://user:secret@host/repo.git", "https://host/repo.git"),
        ("https://ghp_token@host/repo.git", "https://host/repo.git"),
        ("https://user:p@ss#w?rd@host/repo.git", "https://host/repo.git"),
        ("--uri=postgresql://me:hunter2@host:5432/db", "--uri=postgresql://host:5432/db"),
        ("https://host/a?access_token=abc&page=2", "https://host/a?access_token=***&page=2"),
        ("postgresql://me:pa/ss#w?rd@host/db", "postgresql://host/db"),
        ("http://host:5000/file@2 and http://host/a:b@c", "http://host:5000/file@2 and http://host/a:b@c"),
        ("git+https://host/repo.git@main", "git+https://host/repo.git@main"),
        ("write postgresql://USER@HOST/DATABASE", "write postgresql://USER@HOST/DATABASE"),
        ("ssh://git@host/repo.git", "ssh://git@host/repo.git"),
        ("git@host:group/repo.git", "git@host:group/repo.git"),
        ("/home/me@work/mlruns", "/home/me@work/mlruns"),
    ],
)
def test_a_url_loses_its_credentials_and_nothing_else(text: str, left: str) -> None:
    assert without_credentials(text) == left


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_told", {})
    return


HARD = ["pa/ss", "p@ss:w", "p#w?d:x", "1/2@3", "pä ss%2F", "a b/c@d", "hunter2&", "q'\"<>\\x"]


@pytest.mark.parametrize("password", HARD)
@pytest.mark.parametrize("start", ["http://user:", "postgresql+psycopg://me:"])
def test_a_known_password_goes_whatever_characters_it_has(
    password: str, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for written in (password, quote(password, safe="")):
        url = f"{start}{written}@host:5000/db"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        assert without_credentials(url) == f"{start.partition('//')[0]}//host:5000/db"
        for encode in (str, quote, quote_plus, json.dumps, html.escape, repr):
            text = f"the login {encode(password)} of {encode(url)} was refused"
            assert encode(password).strip("\"'") not in without_credentials(text)


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD"])
def test_a_password_in_a_variable_is_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "Zq7/x y")
    assert without_credentials("login Zq7/x y failed") == "login *** failed"
    assert holds_credentials(b"password = 'Zq7/x y'")
    assert not holds_credentials(b"password = None")


def test_a_password_that_is_a_plain_word_goes_from_urls_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://mlflow:mlflow@host/mlflow")
    text = "/home/mlflow/runs of postgresql://mlflow:mlflow@host/mlflow"
    assert without_credentials(text) == "/home/mlflow/runs of postgresql://host/mlflow"


def test_arguments_that_are_urls_with_a_password_are_known() -> None:
    know_words(["--storage", "postgresql://me:1/2 3@h/db", "--storage=http://me:4 56/@h", "see http://h:80/a b@c"])
    assert without_credentials("'1/2 3' '4 56/'") == "'***' '***'"
    assert without_credentials("http://h:80/a b@c") == "http://h:80/a b@c"


def test_only_the_urls_of_a_tree_change() -> None:
    know("http://me:pa/ss@host")
    tree = {"a": ["x://me:pw@h", 1], "b": {"c": "pa/ss is a path", "d": None}}
    assert urls_without_credentials(tree) == {"a": ["x://h", 1], "b": {"c": "pa/ss is a path", "d": None}}


def test_what_is_printed_and_logged_is_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    know("http://me:pa/ss@host")
    with redacted_streams():
        handler = logging.StreamHandler(sys.stderr)
        logging.getLogger("a library").addHandler(handler)
        print("at http://me:pa/ss@host")
        logging.getLogger("a library").warning("pa/ss was refused")
        logging.getLogger("a library").removeHandler(handler)
    print("pa/ss")
    assert capsys.readouterr() == ("at http://host\npa/ss\n", "*** was refused\n")


def test_a_variable_is_known_by_its_name() -> None:
    assert is_secret_variable("TORCH_API_TOKEN")
    assert not is_secret_variable("OMP_NUM_THREADS")


def test_a_document_with_links_stays_whole() -> None:
    link = "http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=ab12"
    assert without_credentials(json.dumps({"url": link})) == json.dumps({"url": link})
    asked = json.dumps({"url": "http://host/?access_token=ab12", "next": 1})
    assert json.loads(without_credentials(asked)) == {"url": "http://host/?access_token=***", "next": 1}
