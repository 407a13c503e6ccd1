"""A regression on more features than rows: what it finds, missing values, stored arrays, its speed."""

import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medseg.diagnosis.deep_logistic import DeepLogistic


def table(rows: int, columns: int = 960) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, rows)
    x = rng.normal(5, 3, (rows, columns))
    x[:, :40] += y[:, None] * 2.0
    return x, y


def test_deep_logistic_equals_scikit_learn() -> None:
    x, y = table(200)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000))
    expected = reference.fit(x, y).predict_proba(x)
    assert np.allclose(DeepLogistic.fit(x, y, 2, 0.01).predict(x), expected, atol=1e-6)


def test_deep_logistic_takes_a_missing_value_for_the_mean() -> None:
    x, y = table(100, 6)
    x[:30, 2] = np.nan
    x[:, 5] = np.nan
    x[:, 4] = 7.0
    model = DeepLogistic.fit(x, y, 3, 0.01)
    assert model.mean[2] == pytest.approx(np.nanmean(x[:, 2]))
    filled = np.where(np.isnan(x), model.mean, x)
    filled[:, 4] = -1e6  # constant in training: tells nothing
    assert np.allclose(model.predict(x), model.predict(filled))
    assert (model.predict(x)[:, 2] < 1e-9).all()  # a class without rows
    again = DeepLogistic.from_arrays(model.arrays())
    assert (again.predict(x) == model.predict(x)).all()


def test_deep_logistic_of_many_columns_is_fast() -> None:
    x, y = table(2000)
    start = time.process_time()
    model = DeepLogistic.fit(x[:1000], y[:1000], 2, 0.01)
    assert time.process_time() - start < 20
    assert (model.predict(x[1000:]).argmax(axis=1) == y[1000:]).mean() > 0.9
