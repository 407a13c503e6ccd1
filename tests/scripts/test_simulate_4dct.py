"""The simulated 4DCT from phantom volumes and made-up marker traces."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from medseg.datasets.phantoms.breathing import synthetic_trace
from medseg.datasets.phantoms.lung import lung_phantom


def load_script():
    path = Path(__file__).parents[2] / "scripts" / "simulate_4dct.py"
    spec = importlib.util.spec_from_file_location("simulate_4dct", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulate_4dct"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


script = load_script()
SPACING = ["--spacing-mm", "12", "12", "12"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    for name in ("volumes/images", "volumes/labels", "traces"):
        (root / name).mkdir(parents=True)
    splits = {"a": "train", "b": "train", "c": "valid"}
    for i, case in enumerate(splits):
        image, mask = lung_phantom(np.random.default_rng(i), size="tiny")
        sitk.WriteImage(image, root / "volumes/images" / f"{case}.nii.gz")
        sitk.WriteImage(mask, root / "volumes/labels" / f"{case}.nii.gz")
    pd.DataFrame({"case": list(splits), "split_in_repo": list(splits.values())}).to_csv(
        root / "volumes/labels.csv", index=False
    )
    times = np.arange(0, 40, 0.1)
    for i in range(4):
        rng = np.random.default_rng(i)
        marker = 12 * synthetic_trace(rng, times) + rng.normal(0, 0.1, len(times))
        marker = (marker - 3) * (-1 if i == 2 else 1)  # one session's first component points the other way
        pd.DataFrame({"time_s": times, "pc1_mm": marker}).to_csv(root / f"traces/t{i}.csv", index=False)
    return root


@pytest.fixture(scope="module")
def made(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated")
    script.main(
        [*map(str, (inputs / "volumes", inputs / "traces", out)), "--frames=12", "--traces-per-volume=1", *SPACING]
    )
    return out, pd.read_csv(out / "cases.csv")


def test_every_row_has_its_files_on_the_grid_asked_for(made):
    out, table = made
    assert list(table.columns) == ["case", "patient", "image", "mask", "label", "frame", "time", "signal", "split"]
    assert len(table) == 3 * 12
    for row in table.iloc[::7].itertuples():
        image, mask = (sitk.ReadImage(out / path) for path in (row.image, row.mask))
        assert image.GetSize() == mask.GetSize()
        assert image.GetSpacing() == pytest.approx((12, 12, 12))
        assert image.GetPixelID() == sitk.sitkInt16
    assert json.loads((out / "simulated.json").read_text(encoding="utf-8"))["simulated"] is True


def test_no_trace_is_shared_between_train_and_the_rest(made):
    table = made[1].assign(trace=lambda t: t["case"].str.rsplit("_", n=1).str[1])
    used = table.groupby("split")["trace"].agg(set)
    assert not used["train"] & used["valid"]
    assert (table["case"] == table["patient"] + "_" + table["trace"]).all()


def test_the_lungs_follow_the_signal(made):
    out, table = made
    for _, frames in table.groupby("case"):
        volumes = [(sitk.GetArrayFromImage(sitk.ReadImage(out / path)) > 0).sum() for path in frames["mask"]]
        assert np.corrcoef(volumes, frames["signal"])[0, 1] > 0.95


@pytest.mark.parametrize("number", range(4))
def test_a_trace_comes_out_as_it_was_before_noise_and_sign(inputs, number):
    trace = script.read_trace(inputs / f"traces/t{number}.csv")
    truth = synthetic_trace(np.random.default_rng(number), np.arange(0, 40, 0.1))
    assert np.corrcoef(trace.signal, truth)[0, 1] > 0.98
    rising = np.gradient(truth, 0.1) > 0.3  # clearly inhaling
    assert np.mean(np.array(trace.states)[rising] == "inhale") > 0.95


def test_too_few_traces_are_refused():
    with pytest.raises(SystemExit, match="do not give 2 different ones"):
        script.assign_traces({"a": "train", "b": "valid"}, ["t0", "t1"], 2, np.random.default_rng(0))
