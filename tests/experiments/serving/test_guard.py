"""Who may ask: the Host header on loopback, and the token."""

import stat
from pathlib import Path

import numpy as np
import pytest
import requests

import workbench
from tests.experiments.serving.servers import JSON, Serving, as_json, serving

WORD = "a-word-that-only-some-know"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "10.127.0.0.1.evil.example:5001", ""])
def test_a_foreign_host_header_is_refused(digits: Serving, images: np.ndarray, host: str) -> None:
    status, answer = digits.post(as_json(images[:1]), Host=host)
    assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED")
    assert requests.get(digits.url, headers={"Host": host}, timeout=60).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LocalHost"])
def test_this_machine_s_own_names_are_taken(digits: Serving, images: np.ndarray, host: str) -> None:
    assert digits.post(as_json(images[:1]), Host=f"{host}:{digits.port}")[0] == 200


def test_pages_of_other_sites_are_refused(digits: Serving, images: np.ndarray) -> None:
    for origin in ("http://evil.example", "null", "http://[", f"http://127.0.0.1:{digits.port}.evil.example"):
        status, answer = digits.post(as_json(images[:1]), Origin=origin)
        assert (status, "another site" in answer["message"]) == (403, True)
    assert digits.post(as_json(images[:1]), Origin=digits.url)[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "some.name"])
def test_without_a_token_it_does_not_listen_beyond_this_machine(
    digits_store: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    code = workbench.main(["serve", "first", "--store", str(digits_store), "--host", host, "--port", "0"])
    assert code == 2
    assert f"error: --host: beyond this machine, a model is served only to those with a token (got '{host}')" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("by", ["file", "variable"])
def test_with_a_token_everything_about_the_model_needs_it(
    digits_store: Path, images: np.ndarray, tmp_path: Path, by: str
) -> None:
    (tmp_path / "word").write_text(f"{WORD}\n")
    options = ["--token-file", str(tmp_path / "word")] if by == "file" else []
    environment = {"WORKBENCH_TOKEN": WORD} if by == "variable" else {}
    with serving(digits_store, "first", *options, **environment) as server:
        assert server.document["needs_token"] is True
        assert WORD not in str(server.document)
        body = as_json(images[:1])
        for given in ("", "Bearer", f"Bearer {WORD[:-1]}", f"Bearer {WORD}x", f"Basic {WORD}", "Bearer é"):
            answer = requests.post(
                f"{server.url}/invocations",
                body,
                headers={"Content-Type": JSON, "Authorization": given.encode()},
                timeout=60,
            )
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert server.post(body, Authorization=f"Bearer {WORD}")[0] == 200
        assert server.post(body, Authorization=f"bearer {WORD}")[0] == 200
        closed = {path: requests.get(server.url + path, timeout=60).status_code for path in ("/model", "/openapi.json")}
        assert set(closed.values()) == {401}
        for path in ("/", "/ping", "/health"):
            answer = requests.get(server.url + path, timeout=60)
            assert answer.status_code == 200
            assert "first" not in answer.text  # the run's name


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (None, "cannot be read: No such file"),
        ("", "must have 16"),
        ("short", "must have 16"),
        ("é" * 20, "cannot be read: it is not plain text"),
    ],
)
def test_a_token_that_is_none_is_refused(
    digits_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str | None, message: str
) -> None:
    path = tmp_path / "word"
    if word is not None:
        path.write_text(word, encoding="utf-8")
        path.chmod(stat.S_IRUSR)
    code = workbench.main(["serve", "first", "--store", str(digits_store), "--token-file", str(path), "--port", "0"])
    printed = capsys.readouterr().err
    assert (code, f"error: --token-file: the token {message}" in printed) == (2, True), printed
    assert word in (None, "") or word not in printed
