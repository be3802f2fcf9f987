"""The machine's and torch's state, against what they say themselves."""

import pytest
import torch

from experiments.provenance.machine import machine, torch_state, variables


def test_torch_s_switches_are_told_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(not before)
    try:
        told = torch_state()
    finally:
        torch.use_deterministic_algorithms(before)
    assert (told["cudnn_benchmark"], told["deterministic_algorithms"]) == (True, not before)
    assert told["threads"] == torch.get_num_threads()


def test_cpu_flags_are_sorted_words() -> None:
    flags = machine()["cpu_flags"].split()
    assert flags == sorted(flags)


def test_variables_that_change_numbers_are_told_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "AVX2,STRICT")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("AWS_REGION", "north")
    told = variables()
    assert (told["MKL_CBWR"], told["OMP_NUM_THREADS"]) == ("AVX2,STRICT", "1")
    assert "AWS_REGION" not in told
