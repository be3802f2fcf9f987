"""The script network_hosts.py, where there is root and what it needs: `pytest -m soak`, a minute or two."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_sweep_of_three_hosts_survives_that_one_of_them_is_cut_off() -> None:
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        pytest.skip("needs root, and Debian's packages util-linux and iproute2")
    script = Path(__file__).with_name("network_hosts.py")
    command = ["unshare", "--net", sys.executable, str(script)]
    environment = os.environ | {"PYTHONPATH": str(script.parents[1])}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    assert "24 trials" in done.stdout
