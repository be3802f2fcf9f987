"""Trying again: which errors, how often, and what is said."""

import pytest

from experiments.process import retry as retrying
from experiments.process.retry import pauses, retry


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, none of which takes any time."""
    made: list[float] = []
    monkeypatch.setattr(retrying.time, "sleep", made.append)
    return made


def failing(times: int) -> tuple[list[int], object]:
    calls: list[int] = []

    def do() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise ConnectionError("away")
        return "done"

    return calls, do


def away(error: Exception) -> str | None:
    return "it is away" if isinstance(error, ConnectionError) else None


def test_pauses_double_up_to_half_a_minute() -> None:
    grown = pauses()
    assert [next(grown) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert {next(grown) for _ in range(2000)} == {30}  # a server that is unreachable over night


def test_it_is_tried_again_after_each_pause_until_it_works(
    slept: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    calls, do = failing(3)
    assert retry(do, away) == "done"  # type: ignore[arg-type]
    assert (len(calls), slept) == (4, [1, 2, 4])
    assert capsys.readouterr().err.splitlines() == [f"it is away; trying again in {n} s" for n in (1, 2, 4)]


def test_after_the_last_pause_the_error_is_raised(slept: list[float]) -> None:
    calls, do = failing(9)
    with pytest.raises(ConnectionError):
        retry(do, away, [5.0, 6.0])  # type: ignore[arg-type]
    assert (len(calls), slept) == (3, [5, 6])


def test_without_pauses_it_is_tried_once(slept: list[float]) -> None:
    calls, do = failing(1)
    with pytest.raises(ConnectionError):
        retry(do, away, ())  # type: ignore[arg-type]
    assert (len(calls), slept) == (1, [])


def test_another_error_is_raised_at_once(slept: list[float]) -> None:
    def do() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        retry(do, away)
    assert slept == []


def test_a_server_may_be_away_for_five_minutes(slept: list[float]) -> None:
    _, do = failing(1000)
    with pytest.raises(ConnectionError):
        retry(do, away)  # type: ignore[arg-type]
    assert sum(slept) == 1 + 2 + 4 + 8 + 16 + 9 * 30
