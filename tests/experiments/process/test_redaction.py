"""What passes for a credential, and what does not."""

import pytest

from experiments.process.redaction import is_secret_variable, without_credentials


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://user:secret@host/repo.git", "https://host/repo.git"),
        ("https://ghp_token@host/repo.git", "https://host/repo.git"),
        ("https://user:p@ss#w?rd@host/repo.git", "https://host/repo.git"),
        ("--uri=postgresql://me:hunter2@host:5432/db", "--uri=postgresql://host:5432/db"),
        ("https://host/a?access_token=abc&page=2", "https://host/a?access_token=***&page=2"),
        ("ssh://git@host/repo.git", "ssh://git@host/repo.git"),
        ("git@host:group/repo.git", "git@host:group/repo.git"),
        ("/home/me@work/mlruns", "/home/me@work/mlruns"),
    ],
)
def test_a_url_loses_its_credentials_and_nothing_else(text: str, left: str) -> None:
    assert without_credentials(text) == left


def test_a_variable_is_known_by_its_name() -> None:
    assert is_secret_variable("TORCH_API_TOKEN")
    assert not is_secret_variable("OMP_NUM_THREADS")
