"""A sweep with a question: its arms, their trials, kills, finalists and the answer."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest

from experiments import Store, load_config
from experiments.config import flatten
from experiments.tracking.lifecycle import RunKind, create_run, open_run
from experiments.tracking.runs import list_runs, resolve
from lightning_modules import InputError
from sweeps import Sweep, load_sweep
from sweeps import run as run_sweep
from sweeps.answering import spread_of_seeds
from sweeps.study.search import Search
from sweeps.study.stage import settle
from sweeps.study.storage import Storage
from tests.stock import stock_storage

if TYPE_CHECKING:
    from tests.sweeps.conftest import Untrained

EXAMPLES = Path(__file__).parents[2] / "examples"
SPACE = """space:
  optimizer.kind: [sgd, adam, adamw]
  optimizer.lr: {low: 1.0e-3, high: 1.0e-1, log: true}
  optimizer.momentum: {low: 0.5, high: 0.99, when: {optimizer.kind: sgd}}
  optimizer.weight_decay: {low: 1.0e-4, high: 1.0e-1, log: true, when: {optimizer.kind: adamw}}
"""
TWO = f"""{SPACE}question: {{compare: optimizer.kind, values: [sgd, adam]}}
budget: {{trials: 8}}
finalists: {{seeds: 2}}
"""


def fields(sweep: Sweep) -> dict[str, list[str]]:
    return {arm.name: [parameter.path for parameter in arm.space.parameters] for arm in sweep.arms}


def claim_all(search: Search, outcome: str = "finished", score: Callable[[Any], float] = lambda _: 0.5) -> list[str]:
    """Fills all slots; the arms in the order in which they got trials."""
    arms = []
    while taken := search.claim():
        settle(taken.trial.study, taken.trial, outcome, value=score(taken.params))  # type: ignore[arg-type]
        arms.append(taken.tags["workbench.arm"])
    return arms


def test_an_arm_has_only_what_exists_with_its_value(untrained: "Untrained") -> None:
    assert fields(untrained.sweep(TWO)) == {
        "sgd": ["optimizer.kind", "optimizer.lr", "optimizer.momentum"],
        "adam": ["optimizer.kind", "optimizer.lr"],
    }


def test_without_values_the_choices_of_the_space_are_compared(untrained: "Untrained") -> None:
    sweep = untrained.sweep(
        f"{SPACE}question: {{compare: optimizer.kind}}\nbudget: {{trials: 9}}\nfinalists: {{seeds: 2}}"
    )
    assert [arm.name for arm in sweep.arms] == ["sgd", "adam", "adamw"]
    assert "optimizer.weight_decay" in fields(sweep)["adamw"]


def test_several_fields_are_compared_in_all_combinations(untrained: "Untrained") -> None:
    lines = "space: {optimizer.kind: [sgd, adam], data.batch_size: [16, 32], optimizer.lr: [0.01, 0.02]}\n"
    lines += "question: {compare: [optimizer.kind, data.batch_size]}\nbudget: {trials: 8}\nfinalists: {seeds: 2}"
    sweep = untrained.sweep(lines)
    assert [arm.name for arm in sweep.arms] == [
        *("sgd batch_size=16", "sgd batch_size=32", "adam batch_size=16", "adam batch_size=32")
    ]
    assert set(claim_all(untrained.search(sweep))) == {arm.name for arm in sweep.arms}


def test_networks_are_compared_each_with_its_own_arguments(untrained: "Untrained") -> None:
    lines = "space:\n  optimizer.lr: [0.01, 0.02]\n"
    lines += "  model.network_args.hidden: {choices: [32, 64], when: {model.network: BaselineCNN}}\n"
    lines += "question: {compare: model.network, values: [BaselineCNN, MLP]}\n"
    lines += "budget: {trials: 4}\nfinalists: {seeds: 2}"
    sweep = untrained.sweep(lines)
    assert fields(sweep)["MLP"] == ["model.network", "optimizer.lr"]
    assert "model.network_args.hidden" in fields(sweep)["BaselineCNN"]


def test_named_arms_have_their_own_overrides_and_spaces(untrained: "Untrained") -> None:
    lines = "space: {optimizer.lr: {low: 0.01, high: 0.1, log: true}}\nbudget: {trials: 6}\nfinalists: {seeds: 2}\n"
    lines += "question:\n  arms:\n    plain: {}\n    gentle: {space: {optimizer.lr: {low: 0.001, high: 0.01}}}\n"
    lines += "    falling: {overrides: {optimizer.schedule: {kind: cosine}}, space: {data.batch_size: [16, 32]}}\n"
    sweep = untrained.sweep(lines)
    assert fields(sweep) == {
        "plain": ["optimizer.lr"],
        "gentle": ["optimizer.lr"],
        "falling": ["optimizer.schedule.kind", "optimizer.lr", "data.batch_size"],
    }
    search = untrained.search(sweep)
    assert claim_all(search) == ["plain", "gentle", "falling"] * 2
    low = [trial.params["optimizer.lr"] for trial in search.trials() if trial.user_attrs["arm"] == "gentle"]
    assert max(low) <= 0.01
    (shown,) = [parameter for parameter in sweep.space.parameters if parameter.path == "optimizer.lr"]
    assert (shown.low, shown.high) == (0.001, 0.1)


@pytest.mark.parametrize(
    ("lines", "field", "message"),
    [
        ("question: {compare: optimizer.kin}", "question.compare", "no such field.*did you mean"),
        ("question: {compare: data.source, values: [digits, other]}", "question.compare", "must be the same for all"),
        ("question: {compare: optimizer.lr}", "question.compare", "has a range in the space.*question.values"),
        ("question: {compare: data.batch_size}", "question.compare", "has no choices in the space.*question.values"),
        ("question: {compare: optimizer.momentum, values: [0.1, 0.2]}", "question.compare", "has a condition"),
        ("question: {compare: [optimizer.kind, optimizer.kind]}", "question.compare", "is given twice"),
        ("question: {compare: []}", "question.compare", "names no field"),
        ("question: {compare: optimizer.kind, values: [sgd]}", "question", "has 1 arm .*2 to 50"),
        ("question: {compare: optimizer.kind, values: [sgd, sgd]}", "question.values", "is given twice"),
        ("question: {compare: optimizer.kind, values: [sgd, nonsense]}", "question.values", "optimizer.kind"),
        ("question: {compare: optimizer.kind, values: [sgd, [1]]}", "question.values", "has the wrong type"),
        ("question: {compare: [optimizer.kind, data.batch_size], values: [1]}", "question.values", "several fields"),
        ("question: {values: [sgd, adam]}", "question.values", "has no effect without a question"),
        ("question: {decide: test}", "question.decide", "has no effect without a question"),
        ("question: {compare: optimizer.kind, arms: {a: {}, b: {}}}", "question.compare", "beside question.arms"),
        ("question: {arms: {a: {}}}", "question", "has 1 arm"),
        ("question: {arms: {a: {}, b: {overide: {}}}}", "question.arms.b.overide", "no such setting"),
        ("question: {arms: {a: {}, b: {overrides: {seed: 3}}}}", "question.arms.b.overrides.seed", "must be the same"),
        ("question: {arms: {a: {}, b: {overrides: {nope: 3}}}}", "question.arms.b.overrides.nope", "no such field"),
        ("question: {arms: {a: {}, b: {space: {nope: [3]}}}}", "question.arms.b.space.nope", "no such field"),
        (
            "question: {arms: {a: {}, b: {space: {optimizer.lr: [1]}, overrides: {optimizer.lr: 1}}}}",
            "question.arms.b.space.optimizer.lr",
            "keep one",
        ),
        ("question: {compare: optimizer.kind}\nbudget: {hours: 1}", "budget.hours", "same number of trials"),
        ("question: {compare: optimizer.kind}\nbudget: {no_improvement: 5}", "budget.no_improvement", "same number"),
        ("question: {compare: optimizer.kind}\nbudget: {trials: 2}", "budget.trials", "among 3 arms.*give 3 or more"),
        ("question: {compare: optimizer.kind}\nbudget: {trials: 10}", "budget.trials", "give 9 or 12"),
        ("question: {compare: optimizer.kind}\nfinalists: {top: 2, seeds: 2}", "finalists.top", "leave it out"),
        ("question: {compare: optimizer.kind}\nfinalists: {seeds: 1}", "finalists.seeds", "one seed cannot tell"),
        ("question: {compare: optimizer.kind}\nstart: {sweep: other}", "start.sweep", "would favour"),
        (
            "question: {compare: optimizer.kind}\nstart: {points: [{optimizer.lr: 7}]}",
            "start.points",
            "outside the space",
        ),
        ("question: {compare: optimizer.kind}\nsampler: {kind: grid}", "space.optimizer.lr", "needs a finite space"),
        ("question: {compare: optimizer.kind, decide: val}", "question.decide", "validation"),
        (
            "question: {compare: optimizer.kind}\n"
            "start: {points: [{optimizer.kind: adamw, optimizer.weight_decay: 5}]}",
            "start.points[0].optimizer.weight_decay",
            r"outside the space.*the space has \[0\.0001, 0\.1\]",
        ),
        (
            "question: {arms: {a: {}, b: {overrides: {optimizer.lr: 3}}}}\nbudget: {trials: 8}\n"
            "start: {points: [{optimizer.lr: 1}]}",
            "start.points[0]",
            "in the space of no arm",
        ),
        (
            "question: {repeats: 2, arms: {a: {}, a repeat 2: {}, b: {}}}",
            "question",
            "the name of an arm and of another one's repeat.*'a repeat 2'",
        ),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_in_one_line(
    untrained: "Untrained", lines: str, field: str, message: str
) -> None:
    more = "" if "budget" in lines else "\nbudget: {trials: 9}"
    more += "" if "finalists" in lines else "\nfinalists: {seeds: 2}"
    with pytest.raises(InputError, match=message) as caught:
        untrained.sweep(f"{SPACE}{lines}{more}")
    assert str(caught.value.field).startswith(field)
    assert "\n" not in str(caught.value)


def test_a_choice_that_is_given_twice_is_named_where_it_was_given(untrained: "Untrained") -> None:
    lines = "space: {data.batch_size: [16, 16]}\nquestion: {compare: data.batch_size}\n"
    with pytest.raises(InputError, match=r"^space\.data\.batch_size: is given twice"):
        untrained.sweep(f"{lines}budget: {{trials: 4}}\nfinalists: {{seeds: 2}}")


def test_a_question_is_not_decided_on_test_by_a_metric_that_test_may_not_have(tmp_path: Path) -> None:
    recipe = EXAMPLES / "regression" / "diabetes.yaml"
    words = f"recipe: {recipe}\nspace: {{model.module_args.lr: {{low: 0.001, high: 0.1}}}}\nbudget: {{trials: 4}}\n"
    words += "question: {compare: data.module_args.batch_size, values: [16, 32], decide: test}\nfinalists: {seeds: 2}\n"
    (tmp_path / "asked.yaml").write_text(words)
    given = {"objective.direction": "minimize"}
    for metric, on_test in {"val/mae": "test/mae", "val_mae": "test_mae"}.items():
        sweep = load_sweep(str(tmp_path / "asked.yaml"), given | {"objective.metric": metric})
        assert sweep.decisive_metric == on_test
    with pytest.raises(InputError, match="valid_loss is called on test"):
        load_sweep(str(tmp_path / "asked.yaml"), given | {"objective.metric": "valid_loss"})


def test_a_grid_must_have_enough_points_in_every_arm(untrained: "Untrained") -> None:
    lines = "space:\n  optimizer.kind: [sgd, adam]\n  data.batch_size: [16, 32]\n"
    lines += "  optimizer.momentum: {choices: [0.5, 0.9], when: {optimizer.kind: sgd}}\n"
    lines += "question: {compare: optimizer.kind}\nsampler: {kind: grid}\nfinalists: {seeds: 2}\n"
    with pytest.raises(InputError, match=r"the grid has 2 points \(arm adam\).*2 or fewer an arm"):
        untrained.sweep(f"{lines}budget: {{trials: 6}}")
    assert Counter(claim_all(untrained.search(untrained.sweep(f"{lines}budget: {{trials: 4}}")))) == {
        "sgd": 2,
        "adam": 2,
    }


@pytest.mark.parametrize("sampler", ["tpe", "random", "quasi_random", "gp", "cmaes"])
def test_each_arm_gets_the_same_number_of_trials_with_every_sampler(untrained: "Untrained", sampler: str) -> None:
    search = untrained.search(untrained.sweep(f"{TWO}sampler: {{kind: {sampler}}}"))
    assert claim_all(search) == ["sgd", "adam"] * 4
    assert search.claim() is None
    kinds = [trial.params["optimizer.kind"] for trial in search.trials()]
    assert kinds == ["sgd", "adam"] * 4
    assert [trial.number for trial in search.trials()] == list(range(8))
    seeds = [trial.user_attrs["seed"] for trial in search.trials()]
    assert seeds[::2] == seeds[1::2]  # arms share the seeds of a slot
    assert len(set(seeds)) == 4


def test_a_died_trial_runs_again_in_its_own_arm_and_the_totals_stay_exact(untrained: "Untrained") -> None:
    search = untrained.search(untrained.sweep(TWO))
    outcomes = ["died", "interrupted", "died", "pruned", "failed"]
    arms, slots = [], []
    while taken := search.claim():
        outcome = outcomes.pop(0) if outcomes else "finished"
        settle(taken.trial.study, taken.trial, outcome, value=0.5)  # type: ignore[arg-type]
        arms.append(taken.tags["workbench.arm"])
        slots.append(taken.tags["workbench.slot"])
    # Arms whose trials ended without counting get the next one; a slot is tried again with its own seed.
    assert slots[:5] == ["sgd 0", "sgd 0", "sgd 0", "sgd 0", "adam 0"]
    kept = [trial for trial in search.trials() if trial.user_attrs["outcome"] in ("finished", "pruned", "failed")]
    assert Counter(trial.user_attrs["arm"] for trial in kept) == {"sgd": 4, "adam": 4}
    assert len({(trial.user_attrs["arm"], trial.user_attrs["slot"]) for trial in kept}) == 8


def test_trials_drawn_after_a_restart_are_those_that_would_have_been_drawn(untrained: "Untrained") -> None:
    whole = untrained.search(untrained.sweep(TWO, name="whole"))
    claim_all(whole)
    search = untrained.search(untrained.sweep(TWO, name="cut"))
    for _ in range(3):
        taken = search.claim()
        assert taken is not None
        settle(taken.trial.study, taken.trial, "finished", value=0.5)
    claim_all(untrained.search(untrained.sweep(TWO, name="cut")))
    assert [trial.params for trial in search.trials()] == [trial.params for trial in whole.trials()]


def test_more_trials_may_be_asked_for_but_no_other_arms(untrained: "Untrained") -> None:
    search = untrained.search(untrained.sweep(TWO))
    claim_all(search)
    more = untrained.search(untrained.sweep(TWO, **{"budget.trials": 12}))
    assert claim_all(more) == ["sgd", "adam"] * 2
    with pytest.raises(InputError, match="was started with"):
        untrained.search(untrained.sweep(TWO.replace("[sgd, adam]", "[sgd, adamw]")))
    with pytest.raises(InputError, match=r"^question\.compare: .*was started with"):
        untrained.search(untrained.sweep(f"{SPACE}budget: {{trials: 8}}"))


def test_a_foreign_study_with_the_name_of_an_arm_is_refused(untrained: "Untrained") -> None:
    with Storage(untrained.store).open() as database:
        study = optuna.create_study(study_name="test arm sgd", storage=database, direction="maximize")
        study.optimize(lambda trial: trial.suggest_float("lr", 0, 1), n_trials=1)
    with pytest.raises(InputError, match=r"'test arm sgd' in this store is not this sweep's: .*parameter lr"):
        untrained.search(untrained.sweep(TWO))
    with Storage(untrained.store).open() as database:
        assert optuna.get_all_study_names(database) == ["test arm sgd"]


def test_a_point_to_start_with_is_tried_in_the_arms_that_have_it(untrained: "Untrained") -> None:
    start = "start: {points: [{optimizer.lr: 0.05}, {optimizer.kind: sgd, optimizer.momentum: 0.7}]}"
    search = untrained.search(untrained.sweep(f"{TWO}{start}"))
    claim_all(search)
    tried = {name: [t for t in search.trials() if t.user_attrs["arm"] == name] for name in ("sgd", "adam")}
    assert [trials[0].params["optimizer.lr"] for trials in tried.values()] == [0.05, 0.05]
    assert tried["sgd"][1].params["optimizer.momentum"] == 0.7
    assert "listed" not in tried["adam"][1].user_attrs


def test_repeats_are_searches_with_other_seeds(untrained: "Untrained") -> None:
    sweep = untrained.sweep(TWO.replace("values: [sgd, adam]", "values: [sgd, adam], repeats: 3"))
    search = untrained.search(sweep)
    assert sweep.target == 24
    assert claim_all(search)[:6] == ["sgd", "adam", "sgd repeat 2", "adam repeat 2", "sgd repeat 3", "adam repeat 3"]
    trials = search.trials()
    assert Counter((t.user_attrs["arm"], t.user_attrs["repeat"]) for t in trials) == {
        (name, repeat): 4 for name in ("sgd", "adam") for repeat in range(3)
    }
    assert len({trial.user_attrs["seed"] for trial in trials}) == 12


def test_repeats_that_have_begun_stay(untrained: "Untrained") -> None:
    """Trials are numbered through all repeats."""

    def asked(repeats: int) -> Sweep:
        return untrained.sweep(TWO.replace("values: [sgd, adam]", f"values: [sgd, adam], repeats: {repeats}"))

    claim_all(untrained.search(asked(2)))
    with pytest.raises(InputError, match=r"^question.repeats: 2 repeats of the search have begun.*give 2 or more"):
        untrained.search(asked(1))
    assert claim_all(untrained.search(asked(3))) == ["sgd repeat 3", "adam repeat 3"] * 4


def test_with_shared_seeds_each_repeat_has_a_seed_of_its_own(untrained: "Untrained") -> None:
    words = TWO.replace("values: [sgd, adam]", "values: [sgd, adam], repeats: 3")
    search = untrained.search(untrained.sweep(f"{words}seeds: shared\n"))
    claim_all(search)
    seeds = {(trial.user_attrs["repeat"], trial.user_attrs["seed"]) for trial in search.trials()}
    assert len(seeds) == len(dict(seeds)) == len({seed for _, seed in seeds}) == 3


def test_the_same_setting_under_two_names_is_the_same_search(untrained: "Untrained") -> None:
    lines = "question: {arms: {one: {}, other: {}}}\nbudget: {trials: 24}\nfinalists: {seeds: 2}\n"
    search = untrained.search(untrained.sweep("space: {optimizer.lr: {low: 0.001, high: 0.1, log: true}}\n" + lines))
    while taken := search.claim():
        settle(taken.trial.study, taken.trial, "finished", value=taken.params["optimizer.lr"])
    trials = search.trials()
    params = {name: [t.params for t in trials if t.user_attrs["arm"] == name] for name in ("one", "other")}
    assert params["one"] == params["other"]
    assert len({point["optimizer.lr"] for point in params["one"]}) == 12


WORKER = """
import sys
from experiments import Store
from experiments.provenance.gather import code_for
from sweeps import load_sweep
from sweeps.study.stage import settle
from sweeps.study.search import Search
store, sweep = Store.open(sys.argv[1]), load_sweep(sys.argv[2])
with Search.open(store, sweep, "data", code_for(sweep.base, store)) as search:
    while taken := search.claim():
        settle(taken.trial.study, taken.trial, "finished", value=0.5)
"""


def test_processes_that_share_a_question_end_with_exactly_its_trials(untrained: "Untrained", tmp_path: Path) -> None:
    (tmp_path / "shared.yaml").write_text("recipe: digits\n" + TWO.replace("trials: 8", "trials: 20"))
    command = [sys.executable, "-c", WORKER, str(untrained.store.folder), str(tmp_path / "shared.yaml")]
    workers = [subprocess.Popen(command) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    search = untrained.search(untrained.sweep(TWO, name="shared", **{"budget.trials": 20}))
    assert Counter(trial.user_attrs["arm"] for trial in search.trials()) == {"sgd": 10, "adam": 10}


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a question that is decided on test, with its store, and what the sweep found."""
    folder = tmp_path_factory.mktemp("answered")
    (folder / "asked.yaml").write_text(
        f"recipe: digits\noverrides: {{trainer.max_epochs: 2}}\n{SPACE}"
        "question: {compare: optimizer.kind, values: [sgd, adam], decide: test}\n"
        "budget: {trials: 4}\npruner: {kind: none}\nfinalists: {seeds: 2, baseline: true}\n"
    )
    sweep = load_sweep(str(folder / "asked.yaml"))
    return folder, run_sweep(sweep, store=Store.open(folder / "store")).as_dict()


def test_each_arm_s_best_configuration_runs_over_the_same_fresh_seeds(answered: tuple[Path, dict[str, Any]]) -> None:
    folder, found = answered
    store = Store.open(folder / "store")
    arms = {arm["value"]: arm for arm in found["question"]["arms"]}
    assert {name: arm["trials"] for name, arm in arms.items()} == {"sgd": 2, "adam": 2}
    seeds = {}
    for name, arm in arms.items():
        own = [trial for trial in found["trials"] if trial["arm"] == name]
        best = max(own, key=lambda trial: (trial["value"], -trial["number"]))
        assert arm["params"] == best["params"]
        assert arm["epochs"] == sum(len(trial["curve"]) for trial in own) == 4
        assert arm["seconds"] > 0
        seeds[name] = [store.client.get_run(run_id).data.params["seed"] for run_id in arm["run_ids"]]
    assert seeds["sgd"] == seeds["adam"]
    assert not set(seeds["sgd"]) & {str(trial["seed"]) for trial in found["trials"]}
    optuna_knows = optuna.get_all_study_summaries(stock_storage(folder / "store"))
    assert {study.study_name: study.n_trials for study in optuna_knows} == {
        "asked": 0,
        "asked arm sgd": 2,
        "asked arm adam": 2,
        "asked finalists": 2,  # of the recipe's own settings
        "asked finalists arm sgd": 2,
        "asked finalists arm adam": 2,
    }


def test_the_answer_is_decided_on_test_read_once_an_arm_and_seed(answered: tuple[Path, dict[str, Any]]) -> None:
    folder, found = answered
    client = Store.open(folder / "store").client
    question = found["question"]
    assert (question["field"], question["metric"]) == ("optimizer.kind", "test/accuracy")
    for arm in question["arms"]:
        for run_id, value in zip(arm["run_ids"], arm["values"], strict=True):
            assert [point.value for point in client.get_metric_history(run_id, "test/accuracy")] == [value]
        assert arm["mean"] == pytest.approx(np.mean(arm["values"]))
    (pair,) = question["pairs"]
    first, second = (next(arm for arm in question["arms"] if arm["value"] == name) for name in pair["between"])
    assert pair["difference"] == pytest.approx(first["mean"] - second["mean"])
    assert question["answer"]
    for trial in found["trials"]:
        assert not [name for name in client.get_run(trial["run_id"]).data.metrics if name.startswith("test")]


def test_the_champion_is_chosen_on_validation_and_found_by_the_sweep_s_name(
    answered: tuple[Path, dict[str, Any]],
) -> None:
    folder, found = answered
    store = Store.open(folder / "store")
    rows = [*found["finalists"], found["baseline"]]
    best = max(rows, key=lambda row: row["mean"])
    champion = found["champion"]["run_ids"]
    assert champion == best["run_ids"]
    assert [run.run_id for run in resolve(store, "asked:champion")] == champion
    assert [run.run_id for run in resolve(store, "asked:best")] == [found["best"]["run_id"]]
    assert len(resolve(store, "asked:all")) == 4 + 6
    arms = Counter(
        store.client.get_run(run.run_id).data.tags.get("workbench.arm") for run in list_runs(store, sweep="asked")
    )
    assert arms == {"sgd": 4, "adam": 4, None: 2}
    assert store.client.get_model_version_by_alias("asked", "champion").run_id == champion[0]


def test_the_commands_on_a_sweep_s_runs_know_its_arms(
    answered: tuple[Path, dict[str, Any]], screen: Callable[..., list[str]]
) -> None:
    folder, found = answered
    where = ("--store", folder / "store")
    told = "\n".join(screen("sweep", folder / "asked.yaml", *where))
    assert " ".join(found["question"]["answer"].split()) in " ".join(told.split())
    assert any(line.split()[2:3] == ["sgd"] for line in told.splitlines())
    screen("compare", "--sweep", "asked", *where)
    screen("clean", *where)
    adam = next(trial for trial in found["trials"] if trial["arm"] == "adam")
    assert any("bitwise" in line for line in screen("reproduce", adam["run_id"], *where))
    folders = folder / "store" / "artifacts"
    assert not list(folders.glob(f"{adam['run_id']}/artifacts/checkpoints"))


def test_a_dry_run_tells_the_arms_and_the_difference_that_can_be_shown(
    answered: tuple[Path, dict[str, Any]], screen: Callable[..., list[str]], tmp_path: Path
) -> None:
    folder, _ = answered
    known = " ".join(" ".join(screen("sweep", folder / "asked.yaml", "--dry-run", "--store", folder / "store")).split())
    assert "sgd 2 optimizer.lr, optimizer.momentum" in known
    assert "2 seeds can show a true difference of" in known
    assert "4 trials, of up to 2 epochs; then 6 runs" in known
    unknown = " ".join(screen("sweep", folder / "asked.yaml", "--dry-run", "--store", tmp_path / "none"))
    assert "not known yet" in " ".join(unknown.split())
    assert not (tmp_path / "none").exists()


def test_the_spread_of_seeds_is_that_of_runs_that_differ_in_nothing_else(
    answered: tuple[Path, dict[str, Any]],
) -> None:
    folder, found = answered
    sweep = load_sweep(str(folder / "asked.yaml"))
    store = Store.open(folder / "store")
    on_validation = load_sweep(str(folder / "asked.yaml"), {"question.decide": "validation"})
    rows = [*found["finalists"], found["baseline"]]
    variances = [np.var(row["values"], ddof=1) for row in rows]
    assert spread_of_seeds(store, on_validation) == pytest.approx(np.sqrt(np.mean(variances)))
    metrics = [[store.client.get_run(run_id).data.metrics for run_id in row["run_ids"]] for row in rows]
    tested = [[each["test/accuracy"] for each in seeds] for seeds in metrics if "test/accuracy" in seeds[0]]
    variances = [np.var(values, ddof=1) for values in tested]
    assert spread_of_seeds(store, sweep) == pytest.approx(np.sqrt(np.mean(variances)))


def test_the_spread_of_seeds_counts_a_seed_once_and_no_other_data(untrained: "Untrained") -> None:
    """Two trainings with several seeds: [0.90, 0.92], and [0.80, 0.86] of a longer one."""
    sweep = untrained.sweep(TWO)

    def ran(value: float, seed: int, kind: RunKind = "repeat", **fields: object) -> None:
        config = load_config("digits", {"seed": seed})
        run_id = create_run(untrained.store, experiment="digits", name="x", kind=kind)
        with open_run(untrained.store, run_id) as run:
            run.log_params(flatten(config.as_recorded()) | fields)
            run.log_metrics({"value": value}, 1)

    assert spread_of_seeds(untrained.store, sweep) is None
    for value, seed in ((0.90, 0), (0.92, 1), (0.92, 1)):
        ran(value, seed)
    for value, seed in ((0.80, 0), (0.86, 1)):
        ran(value, seed, "train", **{"trainer.max_epochs": 50})
    for value, seed in ((0.1, 0), (0.9, 1)):
        ran(value, seed, **{"data.module": "mine.Data", "data.module_args.n": 1})
    assert spread_of_seeds(untrained.store, sweep) == pytest.approx(np.sqrt((0.02**2 / 2 + 0.06**2 / 2) / 2))


def test_another_sweep_starts_with_the_best_of_all_arms(untrained: "Untrained") -> None:
    claim_all(untrained.search(untrained.sweep(TWO)), score=lambda params: params["optimizer.lr"])
    later = untrained.search(untrained.sweep(f"{SPACE}budget: {{trials: 3}}\nstart: {{sweep: test}}", name="later"))
    earlier = untrained.search(untrained.sweep(TWO)).trials()
    best = sorted((trial.params["optimizer.lr"] for trial in earlier), reverse=True)[:3]
    assert [point["optimizer.lr"] for point in later.study.user_attrs["start"]] == best


def test_with_repeats_the_values_are_those_of_whole_searches(tmp_path: Path) -> None:
    (tmp_path / "again.yaml").write_text(
        "recipe: digits\noverrides: {trainer.max_epochs: 1}\n"
        "space: {optimizer.lr: {low: 1.0e-3, high: 1.0e-1, log: true}}\n"
        "question: {arms: {one: {}, other: {overrides: {optimizer.kind: sgd}}}, repeats: 2}\n"
        "budget: {trials: 2}\npruner: {kind: none}\nfinalists: {seeds: 1, baseline: true}\n"
    )
    store = Store.open(tmp_path / "store")
    found = run_sweep(load_sweep(str(tmp_path / "again.yaml")), store=store).as_dict()
    assert found["target"] == len(found["trials"]) == 4
    assert len({trial["seed"] for trial in found["trials"]}) == 2
    assert len({trial["params"]["optimizer.lr"] for trial in found["trials"]}) == 2
    seeds = {}
    for arm in found["question"]["arms"]:
        assert (arm["trials"], len(arm["values"]), len(arm["run_ids"])) == (2, 2, 2)
        runs = [store.client.get_run(run_id) for run_id in arm["run_ids"]]
        assert [run.data.metrics["val/accuracy"] for run in runs] == arm["values"]
        seeds[arm["value"]] = [run.data.params["seed"] for run in runs]
    assert seeds["one"] == seeds["other"]
    assert len(set(seeds["one"])) == 2
    assert found["question"]["unit"] == "repeat"
    names = {run.name for run in list_runs(store, sweep="again", kind="trial")}
    assert sum(name.startswith("one: lr=") for name in names) == 2
    first, own = found["finalists"][0], found["baseline"]
    assert (own["difference"] is None) == (first["repeat"] > 0)  # with other seeds there are no pairs
    more = run_sweep(load_sweep(str(tmp_path / "again.yaml"), {"finalists.seeds": 2}), store=store).as_dict()
    again = {arm["value"]: arm["run_ids"] for arm in more["question"]["arms"]}
    for arm in found["question"]["arms"]:
        assert len(again[arm["value"]]) == 4
        assert set(arm["run_ids"]) < set(again[arm["value"]])
