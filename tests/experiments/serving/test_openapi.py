"""The service fuzzed by its own description: no answer is a 500, and each is one that the description names."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import requests

from tests.experiments.serving.servers import Serving, as_json

# Not among them: that a body is accepted if it fits. JSON Schema cannot say that rows are equally long.
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


def test_the_description_names_every_path_but_the_page_s(digits: Serving) -> None:
    described = requests.get(f"{digits.url}/openapi.json", timeout=60).json()
    assert set(described["paths"]) == {"/invocations", "/ping", "/health", "/version", "/model"}


def test_fuzzed_requests_get_answers_that_are_described(digits: Serving, tmp_path: Path) -> None:
    if find_spec("schemathesis") is None:
        pytest.skip("needs the extra `dev`")
    program = [sys.executable, "-c", "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"]
    command = [*program, "run", f"{digits.url}/openapi.json", "--checks", ",".join(CHECKS)]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "1", "--no-color"]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert digits.post(as_json(np.zeros((1, 8, 8), int)))[0] == 200  # it is still there
