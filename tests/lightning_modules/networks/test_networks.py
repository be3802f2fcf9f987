"""Finding a network by its name or dotted path, and building it with checked arguments."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lightning_modules import BaselineCNN, InputError, ModelConfig
from lightning_modules.networks import build_network, find_network

WriteModule = Callable[[str, str], None]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteModule:
    """Writes NAME.py into a fresh working directory; what importing it changes is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())

    def write(name: str, code: str) -> None:
        monkeypatch.delitem(sys.modules, name, raising=False)
        Path(f"{name}.py").write_text(code)

    return write


def test_a_built_in_network_has_a_plain_name() -> None:
    assert find_network("BaselineCNN") is BaselineCNN


def test_a_dotted_path_names_an_installed_network() -> None:
    assert find_network("torch.nn.Linear") is nn.Linear


def test_a_dotted_path_names_a_network_in_the_working_directory(write_module: WriteModule) -> None:
    write_module(
        "my_networks",
        "from torch import nn\n\n"
        "class Flat(nn.Sequential):\n"
        "    def __init__(self, image_shape, num_classes, *, bias=True):\n"
        "        c, h, w = image_shape\n"
        "        super().__init__(nn.Flatten(), nn.Linear(c * h * w, num_classes, bias=bias))\n",
    )
    network = ModelConfig(network="my_networks.Flat", network_args={"bias": False}).build((3, 4, 5), 7)
    assert [tuple(parameter.shape) for parameter in network.parameters()] == [(7, 60)]


def test_an_unknown_name_suggests_the_near_one() -> None:
    with pytest.raises(InputError, match=r"^model\.network: no such network .*did you mean 'BaselineCNN'\?"):
        ModelConfig(network="BaselineCN")


@pytest.mark.parametrize("name", ["no_such_package.Net", "torch.nn.NoSuchLayer", "..Net", ""])
def test_a_path_that_does_not_import_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^model\.network: "):
        find_network(name)


@pytest.mark.parametrize("code", ["def (", "1 / 0", "import no_such_package"])
def test_a_file_that_breaks_on_import_is_refused(code: str, write_module: WriteModule) -> None:
    write_module("broken_network", code)
    with pytest.raises(InputError, match=r"^model\.network: cannot be imported"):
        find_network("broken_network.Net")


@pytest.mark.parametrize("name", ["numpy.zeros_like", "builtins.dict", "torch.nn.functional.relu", "torch.pi"])
def test_what_makes_no_module_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^model\.network"):
        build_network(name, {}, (1, 28, 28), 10)


def test_a_function_that_makes_something_else_is_refused(write_module: WriteModule) -> None:
    write_module("my_functions", "def numbers():\n    return [1, 2]\n")
    with pytest.raises(InputError, match=r"^model\.network: makes list, which is not a torch\.nn\.Module"):
        build_network("my_functions.numbers", {}, (1, 28, 28), 10)


@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "antigravity.Net"])
def test_pythons_own_library_is_refused_and_not_imported(name: str) -> None:
    with pytest.raises(InputError, match=r"^model\.network: is part of Python's own library"):
        find_network(name)
    assert "antigravity" not in sys.modules


def test_a_wrong_argument_is_refused_with_the_near_one() -> None:
    with pytest.raises(
        InputError, match=r"^model\.network_args\.filter: .*did you mean 'filters'\? choose from filters, hidden"
    ):
        build_network("BaselineCNN", {"filter": 3}, (1, 28, 28), 10)


@pytest.mark.parametrize("args", [{"filters": "many"}, {"filters": -1}])
def test_arguments_that_no_network_can_be_made_with_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^model\.network: cannot be made: .*\(got 'BaselineCNN'\)"):
        build_network("BaselineCNN", args, (1, 28, 28), 10)


@pytest.mark.parametrize(
    ("signature", "width"),
    [
        ("image_shape, num_classes", 192),
        ("shape, classes", 192),  # by position, under other names
        ("in_channels, num_classes", 3),
        ("in_chans=1, num_classes=1000", 3),
        ("num_classes=1000", 1),
    ],
)
def test_a_network_gets_what_its_signature_names(write_module: WriteModule, signature: str, width: int) -> None:
    first = signature.partition(",")[0].partition("=")[0]
    size = {"image_shape": "64 * image_shape[0]", "shape": "64 * shape[0]", "num_classes": "1"}.get(first, first)
    classes = "classes" if "classes" in signature and "num_classes" not in signature else "num_classes"
    code = f"from torch import nn\n\ndef make({signature}):\n    return nn.Linear({size}, {classes})\n"
    write_module("my_factories", code)
    network = build_network("my_factories.make", {}, (3, 8, 8), 10)
    assert (network.in_features, network.out_features) == (width, 10)


@pytest.mark.parametrize("taken", ["num_classes, in_chans", "num_classes, in_channels", "num_classes", ""])
def test_a_factory_of_any_arguments_gets_those_that_it_takes(write_module: WriteModule, taken: str) -> None:
    """Its draws of random numbers are those of a single call."""
    write_module(
        "my_wrapper",
        "from torch import nn\n\n"
        f"def inner({', '.join(f'{name}=1' for name in taken.split(', ') if name)}):\n"
        "    network = nn.Linear(2, 2)\n"
        "    network.given = dict(locals())\n"
        "    return network\n\n"
        "def make(pretrained=False, **kwargs):\n"
        "    nn.Linear(1, 1)\n"
        "    return inner(**kwargs)\n",
    )
    torch.manual_seed(3)
    network = build_network("my_wrapper.make", {}, (3, 8, 8), 10)
    after = torch.rand(1)
    given = {name: network.given[name] for name in taken.split(", ") if name}
    assert given == {name: {"num_classes": 10}.get(name, 3) for name in given}
    torch.manual_seed(3)
    nn.Linear(1, 1), nn.Linear(2, 2)
    assert after == torch.rand(1)


def test_lazy_layers_get_their_shapes(write_module: WriteModule) -> None:
    made = "nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))"
    write_module("my_lazy", f"from torch import nn\n\ndef make(num_classes):\n    return {made}\n")
    assert build_network("my_lazy.make", {}, (3, 8, 8), 10)[1].in_features == 192
