"""medseg associate writes a table and a plot; errors name the column or the cases."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

Command = Callable[..., Any]


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    grade = rng.integers(0, 5, 40)
    names = [f"eye{n:02d}" for n in range(40)]
    frames = pd.DataFrame(
        {"case": names, "frame": 0, "lesions": grade + rng.normal(0, 0.5, 40), "luck": rng.random(40)}
    )
    frames.to_csv(tmp_path / "features.csv", index=False)
    pd.DataFrame({"image": names, "dr_grade": grade}).to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path


def test_associate_of_tables_writes_features_strongest_first_and_a_plot(medseg: Command, tables: Path) -> None:
    out = tables / "deep" / "associations.csv"
    arguments = [tables / "features.csv", tables / "labels.csv", out, "--label", "dr_grade", "--positive-from", "2"]
    assert medseg("associate", *arguments).status == 0
    associations = pd.read_csv(out)
    assert associations["feature"].tolist() == ["lesions", "luck"]
    assert associations["rho"][0] > 0.8
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_associate_leaves_out_deep_features(medseg: Command, tables: Path) -> None:
    features, out = tables / "features.csv", tables / "associations.csv"
    table = pd.read_csv(features).assign(**{"deep.image_000": 1.0 * np.arange(40)})
    table.to_csv(features, index=False)
    arguments = [features, tables / "labels.csv", out, "--label", "dr_grade"]
    assert medseg("associate", *arguments).status == 0
    assert set(pd.read_csv(out)["feature"]) == {"lesions", "luck"}
    table.drop(columns=["lesions", "luck"]).to_csv(features, index=False)
    result = medseg("associate", *arguments)
    assert result.status == 2
    assert "no measured feature" in result.err


def test_associate_without_column_or_shared_cases_is_an_error(medseg: Command, tables: Path) -> None:
    features, labels, out = tables / "features.csv", tables / "labels.csv", tables / "out.csv"
    result = medseg("associate", features, labels, out, "--label", "grade")
    assert result.status == 2
    assert "'grade' is missing" in result.err
    pd.read_csv(labels).assign(image="other").to_csv(labels, index=False)
    result = medseg("associate", features, labels, out, "--label", "dr_grade")
    assert result.status == 2
    assert "no case" in result.err
    assert not out.exists()
