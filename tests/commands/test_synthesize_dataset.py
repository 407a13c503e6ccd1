"""`medseg data synthesize`: a dataset that medseg reads, by map, which goes on after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.commands import synthesize_dataset as command
from medseg.commands.synthesize_dataset import synthesize_dataset
from medseg.data.readers import read_cases
from medseg.errors import DataError
from medseg.utils.files import hash_path
from tests.datasets.synthesis.conftest import ROWS, make_maps

__all__ = ["make_maps"]  # the fixture


def test_synthesize_dataset_is_read_with_a_patient_for_each_map(
    make_maps: Callable[..., Path], tmp_path: Path, medseg: Callable[..., Any]
) -> None:
    result = medseg("data", "synthesize", make_maps(2), tmp_path / "out", "--cases", 3)
    assert result.status == 0, result.err
    cases = read_cases(tmp_path / "out", ["t1"])
    assert [case.patient for case in cases] == ["map_0", "map_1", "map_0"]
    assert cases[0].values == {"csf": (1,), "gm": (2,), "wm": (3,)}
    for case in cases:
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(case.truth_files()[0])))
        assert set(np.unique(mask)) <= {0, 1, 2, 3}


def test_synthesize_dataset_after_interruption_equals_one_run(
    make_maps: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = make_maps(2)
    synthesize_dataset(maps, tmp_path / "whole", 4, 1)
    synthesize, made = command.synthesize, []

    def interrupted(*arguments: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return synthesize(*arguments)

    monkeypatch.setattr(command, "synthesize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthesize_dataset(maps, tmp_path / "parts", 4, 1)
    assert not (tmp_path / "parts" / "cases.csv").exists()
    calls: list[int] = []
    monkeypatch.setattr(command, "synthesize", lambda *arguments: calls.append(1) or synthesize(*arguments))
    synthesize_dataset(maps, tmp_path / "parts", 4, 1)
    assert len(calls) == 2  # the first two are kept
    assert hash_path(tmp_path / "parts") == hash_path(tmp_path / "whole")


def test_synthesize_dataset_other_seed_in_unfinished_folder_is_error(
    make_maps: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps, out = make_maps(1), tmp_path / "out"
    monkeypatch.setattr(command, "synthesize", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        synthesize_dataset(maps, out, 2, 1)
    with pytest.raises(DataError, match="other seed"):
        synthesize_dataset(maps, out, 2, 2)


def test_synthesize_dataset_folder_with_dataset_or_files_is_error(
    make_maps: Callable[..., Path], tmp_path: Path
) -> None:
    maps = make_maps(1)
    for name, words in (("cases.csv", "contains a dataset"), ("notes.txt", "is not empty")):
        out = tmp_path / name[:5]
        out.mkdir()
        (out / name).write_text("case\n", encoding="utf-8")
        with pytest.raises(DataError, match=words):
            synthesize_dataset(maps, out, 1, 1)


def test_synthesize_dataset_unknown_value_in_last_map_ends_before_any_work(
    make_maps: Callable[..., Path], tmp_path: Path, medseg: Callable[..., Any]
) -> None:
    maps = make_maps(2, ROWS)
    file = maps / "labels" / "map_1.nii.gz"
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    array[0, 0, 0] = 999
    sitk.WriteImage(sitk.GetImageFromArray(array), str(file))
    result = medseg("data", "synthesize", maps, tmp_path / "out", "--cases", 2)
    assert result.status == 2
    assert "map_1.nii.gz" in result.err
    assert "999" in result.err
    assert not (tmp_path / "out").exists()
