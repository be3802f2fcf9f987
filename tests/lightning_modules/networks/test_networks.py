"""Finding a network by its name or dotted path, and building it with checked arguments."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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


@pytest.mark.parametrize("name", ["numpy.ndarray", "torch.nn.functional.relu"])
def test_what_is_no_module_class_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^model\.network: is not a torch\.nn\.Module class"):
        find_network(name)


@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "antigravity.Net"])
def test_pythons_own_library_is_refused_and_not_imported(name: str) -> None:
    with pytest.raises(InputError, match=r"^model\.network: is part of Python's own library"):
        find_network(name)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("args", [{"filter": 3}, {"num_classes": 3}])
def test_wrong_arguments_are_refused_with_the_signature(args: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"^model\.network_args: .*BaselineCNN\(.*filters: int = 32, hidden: int = 128"
    ):
        build_network("BaselineCNN", args, (1, 28, 28), 10)


@pytest.mark.parametrize("args", [{"filters": "many"}, {"filters": -1}])
def test_arguments_that_no_network_can_be_built_with_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^model\.network: cannot be built"):
        build_network("BaselineCNN", args, (1, 28, 28), 10)
