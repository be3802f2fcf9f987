"""What differs between a run and its re-run, and what of it comes first."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments.reproduction.causes import Cause, Origins, causes

PROVENANCE: dict[str, Any] = {
    "data_sha256": "a" * 64,
    "git": {"left_out_of_patch": []},
    "sources": None,
    "packages": {
        "numpy": {"version": "2.0", "files_sha256": "1"},
        "torch": {"version": "2.13.0+cpu", "files_sha256": "2"},
    },
    "torch": {"version": "2.13.0+cpu", "threads": 2, "interop_threads": 2, "gpus": [], "cudnn": None},
    "machine": {"cpu": "A", "cpu_flags": "avx avx2", "host": "a", "memory_bytes": 1, "cores": 2, "python": "3.11.1"},
    "variables": {"MKL_CBWR": None},
}
PARAMS = {"seed": "0", "trainer.threads": "2", "optimizer.lr": "0.1", "data.path": "/a.npz", "data.split_seed": "0"}


def between(code: Path, params: Mapping[str, str] = {}, **provenance: Any) -> list[Cause]:
    """The causes where these params, and these parts of the provenance, are other ones now."""
    changed = PROVENANCE | {
        name: PROVENANCE[name] | value if isinstance(value, dict) else value for name, value in provenance.items()
    }
    return causes(Origins(PARAMS, PROVENANCE, code), Origins(PARAMS | params, changed, code))


def test_the_same_origins_have_no_cause(tmp_path: Path) -> None:
    assert between(tmp_path) == []


def test_where_data_lie_and_what_the_host_is_called_is_no_cause(tmp_path: Path) -> None:
    assert between(tmp_path, {"data.path": "/b.npz"}, machine={"host": "b", "memory_bytes": 2, "cores": 64}) == []


def test_what_surely_changes_numbers_comes_first(tmp_path: Path) -> None:
    found = between(
        tmp_path,
        {"trainer.threads": "1", "seed": "1", "optimizer.lr": "0.2"},
        data_sha256="b" * 64,
        packages={"numpy": {"version": "2.1", "files_sha256": "3"}},
        torch={"threads": 1},
        machine={"cpu": "B"},
        variables={"MKL_CBWR": "AVX2"},
    )
    assert [cause.kind for cause in found] == [
        "data",
        "config",
        "seed",
        "threads",
        "package",
        "hardware",
        "environment",
    ]


@pytest.mark.parametrize(
    ("change", "kind", "detail"),
    [
        ({"packages": {"numpy": {"version": "2.1", "files_sha256": "3"}}}, "package", "numpy 2.0, now 2.1"),
        (
            {"packages": {"numpy": {"version": "2.0", "files_sha256": "3"}}},
            "package",
            "numpy 2.0: the same version with different files",
        ),
        (
            {"packages": {"extra": {"version": "1", "files_sha256": None}}},
            "package",
            "extra not installed, now 1",
        ),
        ({"torch": {"interop_threads": 1}}, "threads", "torch interop_threads: 2, now 1"),
        ({"torch": {"gpus": ["H100"]}}, "hardware", "torch gpus: [], now ['H100']"),
        ({"machine": {"cpu_flags": "avx avx512f"}}, "hardware", "CPU flags: ['avx2'] are gone, ['avx512f'] are new"),
        ({"machine": {"python": "3.11.2"}}, "environment", "python: 3.11.1, now 3.11.2"),
        ({"variables": {"OMP_NUM_THREADS": "1"}}, "threads", "variable OMP_NUM_THREADS: None, now 1"),
        ({"variables": {"MKL_CBWR": "AVX2"}}, "environment", "variable MKL_CBWR: None, now AVX2"),
    ],
)
def test_a_difference_is_told_with_both_values(tmp_path: Path, change: dict[str, Any], kind: str, detail: str) -> None:
    (cause,) = between(tmp_path, **change)
    assert (cause.kind, cause.detail) == (kind, detail)


def test_what_the_record_could_not_keep_is_the_last_to_suspect(tmp_path: Path) -> None:
    recorded = PROVENANCE | {"git": {"left_out_of_patch": ["big.bin"]}, "sources": {"left_out": [".env"]}}
    found = causes(Origins(PARAMS, recorded, tmp_path), Origins(PARAMS | {"seed": "1"}, PROVENANCE, tmp_path))
    assert [(cause.kind, cause.detail.partition(":")[0]) for cause in found] == [
        ("seed", "seed"),
        ("unrecorded", "big.bin"),
        ("unrecorded", ".env"),
    ]


def test_a_file_of_a_package_that_was_edited_by_hand_is_named(tmp_path: Path) -> None:
    def torch(digest: str, *edited: str) -> dict[str, Any]:
        package = {"version": "2.13.0+cpu", "files_sha256": "2", "bytes_sha256": digest}
        return PROVENANCE | {"packages": {"torch": package | {"edited": list(edited)}}}

    edited, as_installed = torch("3", "torch/nn/functional.py"), torch("4")
    (cause,) = causes(Origins(PARAMS, edited, tmp_path), Origins(PARAMS, as_installed, tmp_path))
    assert (cause.kind, cause.detail) == ("package", "torch's files: torch/nn/functional.py, now as installed")
    many = [f"gone/{number}.py" for number in range(5)]
    before, now = torch("5", *many), torch("6", "torch/nn/functional.py", *many)
    (cause,) = causes(Origins(PARAMS, before, tmp_path), Origins(PARAMS, now, tmp_path))
    assert cause.detail == "torch's files: as installed, now torch/nn/functional.py"
    (cause,) = causes(Origins(PARAMS, as_installed, tmp_path), Origins(PARAMS, before, tmp_path))
    assert cause.detail == "torch's files: as installed, now gone/0.py, gone/1.py, gone/2.py and 2 more"


def test_what_only_one_version_of_the_workbench_records_is_no_cause(tmp_path: Path) -> None:
    now = PROVENANCE | {"torch": PROVENANCE["torch"] | {"blas": ["mkl 2025"]}}
    now["packages"] = {
        name: package | {"bytes_sha256": "5", "edited": []} for name, package in PROVENANCE["packages"].items()
    }
    assert causes(Origins(PARAMS, PROVENANCE, tmp_path), Origins(PARAMS, now, tmp_path)) == []


def test_code_that_does_not_run_comes_last_and_is_harmless(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    texts = {
        "a_comment.py": ("x = 1  # old", "x = 1  # new"),
        "b_idle.py": ("x = 1", "x = 2"),
        "z_run.py": ("x = 1", "x = 2"),
    }
    for folder, which in ((before, 0), (after, 1)):
        folder.mkdir()
        for name, both in texts.items():
            (folder / name).write_text(both[which] + "\n")
    told = PROVENANCE | {"code": {"loaded": ["a_comment.py", "z_run.py"]}}
    found = causes(Origins(PARAMS, told, before), Origins(PARAMS | {"optimizer.lr": "0.2"}, told, after))
    assert [(cause.detail, cause.is_harmless) for cause in found] == [
        ("optimizer.lr: 0.1, now 0.2", False),
        ("z_run.py:1: -x = 1 +x = 2", False),
        ("a_comment.py:1: -x = 1  # old +x = 1  # new (comments alone)", True),
        ("b_idle.py:1: -x = 1 +x = 2 (a file that the run does not load)", True),
    ]


def test_code_is_compared_hunk_by_hunk(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    same = [f"line {number}" for number in range(9)]
    trees = {
        before: {"net.py": same, "gone.py": ["x"], "recipe.yaml": ["lr: 1"], "same.py": same, "notes.txt": ["a"]},
        after: {
            "net.py": [*same[:2], "  other", *same[3:8]],
            "new.py": ["x"],
            "recipe.yaml": ["lr: 2"],
            "same.py": same,
            "notes.txt": ["b"],
            "tests/test_net.py": ["x"],
        },
    }
    for folder, files in trees.items():
        for name, lines in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("\n".join(lines) + "\n")
    found = causes(Origins(PARAMS, PROVENANCE, before), Origins(PARAMS, PROVENANCE, after))
    assert [cause.detail for cause in found] == [
        "gone.py: no longer exists",
        "net.py:3: -line 2 +other",
        "net.py:9: -line 8",
        "new.py: new file",
        "recipe.yaml:1: -lr: 1 +lr: 2",
    ]
