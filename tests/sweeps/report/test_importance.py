"""Importance of fields: of known functions, with intervals; and why there is none."""

import optuna
import pytest

from sweeps.report.importance import ENOUGH, importance


def studied(trials: int, *, varied: bool = True) -> optuna.Study:
    """A study whose values depend on `a` a lot, on `b` a little, and on `c` not at all."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(trials):
        trial = study.ask()
        a, b, _c = (trial.suggest_float(name, 0, 1) for name in "abc")
        study.tell(trial, a + 0.3 * b if varied else 0.5)
    return study


def test_shares_are_those_of_the_formula_and_lie_in_their_intervals() -> None:
    found = importance(studied(80))
    assert found["reason"] == ""
    rows = {row["path"]: row for row in found["fields"]}
    assert list(rows) == ["a", "b", "c"]
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1, abs=0.05)  # less what two fields do together
    assert rows["a"]["share"] == pytest.approx(1 / 1.09, abs=0.08)  # variances 1 : 0.09
    for row in rows.values():
        assert 0 <= row["ci95"][0] <= row["share"] <= row["ci95"][1] <= 1
    assert rows["c"]["ci95"][1] < 0.06


def test_few_trials_or_equal_values_have_none_and_say_so() -> None:
    few = importance(studied(ENOUGH - 1))
    assert few == {"fields": [], "reason": f"{ENOUGH - 1} completed trials are too few: it takes {ENOUGH}"}
    assert importance(studied(ENOUGH, varied=False))["fields"] == []
