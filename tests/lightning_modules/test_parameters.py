"""Parameters chosen by patterns, frozen, grouped, and loaded from files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lightning_modules import InputError, OptimizerConfig
from lightning_modules.parameters import freeze, load_given


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))


def test_patterns_choose_parameters_by_name() -> None:
    made = network()
    freeze(made, ["0.*"])
    assert [name for name, weights in made.named_parameters() if weights.requires_grad] == ["1.weight", "1.bias"]


def test_groups_have_settings_of_their_own_and_frozen_parameters_are_in_none() -> None:
    made = network()
    freeze(made, ["0.bias"])
    config = OptimizerConfig(
        kind="sgd", lr=0.1, groups=[{"match": "*.bias", "lr": 0.5}, {"match": "1.*", "momentum": 0.5}]
    )
    groups = config.build(made).param_groups
    found = [([tuple(weights.shape) for weights in each["params"]], each["lr"], each["momentum"]) for each in groups]
    assert found == [([(3, 2)], 0.1, 0), ([(4,)], 0.5, 0), ([(4, 3)], 0.1, 0.5)]


@pytest.mark.parametrize("kind", ["Adagrad", "adagrad", "torch.optim.Adagrad", "RAdam", "NAdam", "ASGD", "Rprop"])
def test_any_optimizer_of_torch_takes_a_step(kind: str) -> None:
    made = network()
    before = made[0].weight.detach().clone()
    optimizer = OptimizerConfig(kind=kind, lr=0.1).build(made)
    made(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(made[0].weight, before)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "adagard"}, r"optimizer\.kind: no such optimizer .*did you mean 'adagrad'"),
        ({"kind": "torch.nn.Linear"}, r"optimizer\.args\.in_features: is missing"),
        ({"kind": "rprop", "momentum": 0.9}, r"optimizer\.momentum: is not a setting of rprop"),
        ({"kind": "rprop", "weight_decay": 0.1}, r"optimizer\.weight_decay: rprop has none"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        OptimizerConfig(**fields).build(network())


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_given_weights_are_loaded_by_name_and_shape(suffix: str, tmp_path: Path) -> None:
    given = {"0.weight": torch.full((3, 2), 7.0), "1.weight": torch.zeros(5, 3), "head": torch.zeros(1)}
    path = tmp_path / f"given{suffix}"
    if suffix == ".ckpt":
        torch.save({"state_dict": {f"network.{name}": values for name, values in given.items()}}, path)
    else:
        save_file(given, path)
    made = network()
    kept = made[1].weight.detach().clone()
    load_given(made, path)
    assert made[0].weight.tolist() == [[7, 7]] * 3
    assert torch.equal(made[1].weight, kept)  # of another shape in the file


def test_a_file_without_weights_that_fit_is_refused(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(
        InputError, match=r"^model\.weights: none of its 1 tensors has a name and a shape of the network's"
    ):
        load_given(network(), tmp_path / "other.safetensors")
    (tmp_path / "broken.ckpt").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"^model\.weights: cannot be read: "):
        load_given(network(), tmp_path / "broken.ckpt")


@pytest.mark.parametrize("held", [[1, 2], torch.zeros(2), {"state_dict": 3}, {1: torch.zeros(2)}], ids=str)
def test_a_checkpoint_of_something_else_is_refused(held: object, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=r"^model\.weights: (cannot be read|none of its 1 tensors has)"):
        load_given(network(), tmp_path / "other.ckpt")
