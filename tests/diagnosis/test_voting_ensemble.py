"""Classes that are easy, classes that are noise, and files that hold what they must not."""

import io
import zipfile

import numpy as np
import pytest

from medseg.diagnosis.voting_ensemble import VotingEnsemble
from medseg.errors import DataError, ModelError


def rows(count: int, gap: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    x = rng.normal(size=(count, 4))
    x[:, 0] += gap * y
    return x, y


def test_classes_apart_are_told_and_probabilities_sum_to_one() -> None:
    prediction = VotingEnsemble.fit(*rows(150, 6.0, 0), classes=3, trees=30).predict(rows(90, 6.0, 1)[0])
    assert (prediction.argmax(axis=1) == rows(90, 6.0, 1)[1]).mean() > 0.95
    assert prediction.sum(axis=1) == pytest.approx(np.ones(90))


def test_the_same_seed_gives_the_same_model_and_stored_it_is_the_same() -> None:
    x, y = rows(90, 1.0, 2)
    one, again = (VotingEnsemble.fit(x, y, 3, trees=30, seed=5) for _ in range(2))
    assert (one.predict(x) == again.predict(x)).all()
    assert (VotingEnsemble.load(one.dump()).predict(x) == one.predict(x)).all()


def test_a_class_never_seen_gets_nothing() -> None:
    x, y = rows(90, 2.0, 3)
    prediction = VotingEnsemble.fit(x[y < 2], y[y < 2], classes=3, trees=30).predict(x)
    assert (prediction[:, 2] == 0).all()


def test_few_cases_of_a_class_are_enough() -> None:
    x, y = rows(20, 2.0, 4)
    y[:] = 0
    y[:2] = 1
    assert VotingEnsemble.fit(x, y, 2, trees=30).predict(x).shape == (20, 2)


def test_rows_of_one_patient_are_calibrated_together() -> None:
    """Six rows a patient, alike, and labels that mean nothing: who knows a patient's other rows is sure of it."""
    rng = np.random.default_rng(6)
    x, y = np.repeat(rng.normal(size=(40, 20)), 6, axis=0), np.repeat(rng.permutation([0, 1] * 20), 6)
    x += rng.normal(0, 0.05, x.shape)
    machines = [
        VotingEnsemble.fit(x, y, 2, trees=30, patients=of).members[-1] for of in (None, np.repeat(np.arange(40), 6))
    ]
    sure = [np.ptp(machine.predict_proba(x)[:, 0]) for machine in machines]
    assert sure[0] > 0.8
    assert sure[1] < 0.5


def test_one_class_teaches_nothing() -> None:
    with pytest.raises(DataError, match="at least two classes"):
        VotingEnsemble.fit(np.zeros((4, 2)), np.zeros(4, np.int64), 2)


def test_foreign_types_and_broken_files_are_refused() -> None:
    content = VotingEnsemble.fit(*rows(60, 1.0, 5), classes=3, trees=30).dump()
    with pytest.raises(ModelError, match="cannot be read"):
        VotingEnsemble.load(content[: len(content) // 2])
    stranger = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stranger, "w") as new:
        for item in old.infolist():
            text = old.read(item)
            if item.filename == "schema.json":
                text = text.replace(b'"RandomForestClassifier"', b'"Popen"').replace(
                    b'"sklearn.ensemble._forest"', b'"subprocess"'
                )
            new.writestr(item, text)
    with pytest.raises(ModelError, match=r"subprocess\.Popen"):
        VotingEnsemble.load(stranger.getvalue(), "runs/x/ensemble.skops")
