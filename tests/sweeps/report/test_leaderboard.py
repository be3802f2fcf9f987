"""What a sweep says of its champion, in every case, from documents made by hand."""

from typing import Any

import pytest

from sweeps.report.leaderboard import as_text, doubts, headline

TEST = {"mean": 0.97, "ci95": (0.96, 0.98)}
ONE = {"mean": 0.97, "ci95": None}
SEVEN = "trial 7, adam lr=0.003"


def row(mean: float | None, ci95: tuple[float, float] | None = None, *, seeds: int = 3, **more: Any) -> dict[str, Any]:
    return (
        {"params": {"optimizer.kind": "adam", "optimizer.lr": 0.003}, "mean": mean, "ci95": ci95}
        | more
        | {"values": [mean] * seeds}
    )


def own(
    mean: float | None, difference: float | None, ci95: tuple[float, float] | None = None, seeds: int = 3
) -> dict[str, Any]:
    return row(mean, seeds=seeds, difference=difference, difference_ci95=ci95)


def document(
    *finalists: dict[str, Any],
    own: dict[str, Any] | None = None,
    champion: int | str | None = 7,
    test: dict[str, Any] = TEST,
    **more: Any,
) -> dict[str, Any]:
    """`finalists` are numbered 7, 8, …; `champion`: a trial's number, or "own"."""
    numbered = [finalist | {"number": 7 + place} for place, finalist in enumerate(finalists)]
    tested = {"test_accuracy": test, "test_loss": {"mean": 0.05, "ci95": None}}
    scores = {"number": None if champion == "own" else champion, **tested}
    told = {
        "metric": "val/accuracy",
        "direction": "maximize",
        "finalists": numbered,
        "champion": scores if champion is not None else None,
    }
    return told | {"baseline": own, "runner_up": None, "luck": None, "trials": []} | more


BETTER = document(row(0.98, (0.95, 0.99)), own=own(0.9533, 0.0267, (0.0123, 0.0410)))
ALIKE = document(row(0.98, (0.95, 0.99)), own=own(0.97, 0.01, (-0.01, 0.03)))
ALL_EQUAL = document(row(0.98), own=own(0.9731, 0.0069))
OWN_WINS = document(row(0.97), own=own(0.98, -0.01, (-0.03, 0.01)), champion="own")
OWN_ALONE = document(row(None), own=own(0.98, None), champion="own")
OTHER_SEEDS = document(row(0.98), own=own(0.97, None))  # of another repeat of the search
OWN_DIVERGED = document(row(0.98), own=own(None, None))
WITHOUT_OWN = document(row(0.98))
ONE_SEED = document(row(0.98, seeds=1), own=own(0.96, 0.02, seeds=1), test=ONE)
ONE_SEED_OWN = document(row(0.96, seeds=1), own=own(0.98, -0.02, seeds=1), champion="own", test=ONE)
ONE_SEED_WITHOUT_OWN = document(row(0.98, seeds=1), test=ONE)
LOWEST = document(row(0.05), own=own(0.07, -0.02, (-0.03, -0.01)), metric="val/loss", direction="minimize")
HIGHER_LOSS = document(
    row(0.07), own=own(0.05, 0.02, (0.01, 0.03)), metric="val/loss", direction="minimize", champion="own"
)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (
            BETTER,
            f"Champion: {SEVEN}: better than the recipe's own settings over 3 fresh seeds; val/accuracy 0.9800 "
            "[0.9500, 0.9900], test accuracy 0.9700 [0.9600, 0.9800].",
        ),
        (
            ALIKE,
            f"Champion: {SEVEN}: the best mean over 3 fresh seeds, but it is not distinguishable from the recipe's own "
            "settings; val/accuracy 0.9800 [0.9500, 0.9900], test accuracy 0.9700 [0.9600, 0.9800].",
        ),
        (
            ALL_EQUAL,
            f"Champion: {SEVEN}: the best mean over 3 fresh seeds, but it ran over too few seeds to tell it from the "
            "recipe's own settings; val/accuracy 0.9800, test accuracy 0.9700 [0.9600, 0.9800].",
        ),
        (
            OWN_WINS,
            "Champion: the recipe's own settings: no trial did better over 3 fresh seeds; val/accuracy 0.9800, "
            "test accuracy 0.9700 [0.9600, 0.9800].",
        ),
        (
            OWN_ALONE,
            "Champion: the recipe's own settings: no finalist gave a score with every seed; val/accuracy 0.9800, "
            "test accuracy 0.9700 [0.9600, 0.9800].",
        ),
        (
            OWN_DIVERGED,
            f"Champion: {SEVEN}: the best mean over 3 fresh seeds (the recipe's own settings gave no score with every "
            "seed); val/accuracy 0.9800, test accuracy 0.9700 [0.9600, 0.9800].",
        ),
        (
            OTHER_SEEDS,
            f"Champion: {SEVEN}: the best mean over 3 fresh seeds (the recipe's own settings ran over other seeds); "
            "val/accuracy 0.9800, test accuracy 0.9700 [0.9600, 0.9800].",
        ),
        (
            WITHOUT_OWN,
            f"Champion: {SEVEN}: the best mean over 3 fresh seeds (the recipe's own settings did not run); "
            "val/accuracy 0.9800, test accuracy 0.9700 [0.9600, 0.9800].",
        ),
        (
            ONE_SEED,
            f"Best trial: {SEVEN}: the best score with one fresh seed; val/accuracy 0.9800, test accuracy 0.9700; "
            "one seed is too few seeds to tell.",
        ),
        (
            ONE_SEED_OWN,
            "Best: the recipe's own settings: no trial did better with one fresh seed; val/accuracy 0.9800, "
            "test accuracy 0.9700; one seed is too few seeds to tell.",
        ),
        (document(row(None), champion=None), "There is no champion: no finalist gave a score with every seed."),
        (document(champion=None), "No trial completed: there is no champion."),
        (
            LOWEST,
            f"Champion: {SEVEN}: better than the recipe's own settings over 3 fresh seeds; val/loss 0.0500, "
            "test accuracy 0.9700 [0.9600, 0.9800], test loss 0.0500.",
        ),
    ],
)
def test_the_first_line(told: dict[str, Any], line: str) -> None:
    assert headline(told) == line


def test_macro_f1_is_told_where_it_was_searched_for() -> None:
    told = document(row(0.98), metric="val/macro_f1")
    told["champion"]["test_macro_f1"] = {"mean": 0.95, "ci95": (0.94, 0.96)}
    assert headline(told).endswith("test accuracy 0.9700 [0.9600, 0.9800], test macro-F1 0.9500 [0.9400, 0.9600].")


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (BETTER, "reach 0.9533 over the same seeds; trial 7 is ahead of them: difference 0.0267 [0.0123, 0.0410]."),
        (ALIKE, "reach 0.9700 over the same seeds; trial 7 is not distinguishable from them: difference 0.0100 "
         "[-0.0100, 0.0300]."),
        (ALL_EQUAL, "reach 0.9731 over the same seeds; trial 7 ran over too few seeds to tell it from them: difference "
         "0.0069."),
        (ONE_SEED, "reach 0.9600 over the same seeds; trial 7 ran over too few seeds to tell it from them: difference "
         "0.0200."),
        (OWN_ALONE, "reach 0.9800 over 3 seeds."),
        (OTHER_SEEDS, "reach 0.9700 over 3 seeds."),
        (OWN_DIVERGED, "gave no score with every seed."),
        (LOWEST, "reach 0.0700 over the same seeds; trial 7 is ahead of them: difference -0.0200 [-0.0300, -0.0100]."),
        (HIGHER_LOSS, "reach 0.0500 over the same seeds; trial 7 is behind them: difference 0.0200 [0.0100, 0.0300]."),
    ],
)  # fmt: skip
def test_the_recipe_s_own_settings_against_the_first_finalist(told: dict[str, Any], sentence: str) -> None:
    assert doubts(told) == [f"The recipe's own settings {sentence}"]


@pytest.mark.parametrize(
    ("ci95", "sentence"),
    [
        ((0.005, 0.015), "Trial 7 is ahead of the second finalist, trial 8: difference 0.0100 [0.0050, 0.0150]."),
        ((-0.01, 0.03), "Trial 7 is not distinguishable from the second finalist, trial 8: difference 0.0100 [-0.0100, "
         "0.0300]."),
        (None, "Trial 7 ran over too few seeds to tell it from the second finalist, trial 8: difference 0.0100."),
    ],
)  # fmt: skip
def test_the_second_finalist_against_the_first(ci95: tuple[float, float] | None, sentence: str) -> None:
    second = {"number": 8, "difference": 0.01, "ci95": ci95}
    assert doubts(document(row(0.98), row(0.97), runner_up=second)) == [sentence]


@pytest.mark.parametrize(
    ("mean", "verdict"), [(0.9769, "0.0092 of it was luck"), (0.9861, "it was not luck"), (0.99, "it was not luck")]
)
def test_luck(mean: float, verdict: str) -> None:
    luck = {"number": 7, "value": 0.9861, "mean": mean, "luck": 0.9861 - mean}
    assert doubts(document(row(mean), luck=luck)) == [
        f"Trial 7, the best of the search, had 0.9861 in the search, {mean:.4f} over fresh seeds: {verdict}."
    ]


@pytest.mark.parametrize("told", [ONE_SEED, ONE_SEED_OWN, ONE_SEED_WITHOUT_OWN])
def test_one_seed_decides_nothing(told: dict[str, Any]) -> None:
    said = " ".join([headline(told), *doubts(told)])
    assert "too few seeds to tell" in headline(told)
    for word in ("hampion", "luck", "ahead", "behind", "better than", "["):
        assert word not in said


@pytest.mark.parametrize(
    ("mean", "ci95", "text"),
    [
        (0.9812, (0.979, 0.9834), "0.9812 [0.9790, 0.9834]"),
        (0.97921, (0.97919, 0.97923), "0.97921 [0.97919, 0.97923]"),  # at four digits it would have no width
        (0.9792, None, "0.9792"),
        (-1e-17, None, "0.0000"),
        (None, None, "diverged"),
    ],
)
def test_a_score_and_its_interval(mean: float | None, ci95: tuple[float, float] | None, text: str) -> None:
    assert as_text({"mean": mean, "ci95": ci95}) == text
