"""A soft vote of four kinds of model on a table of measures, kept without pickle."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.data.splits import stratified_group_folds
from medseg.errors import DataError, ModelError
from medseg.typing import FloatArray, IntArray

# what a stored ensemble may be made of, beyond what skops itself trusts
TRUSTED = [
    "sklearn.tree._tree.Tree",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
]
FORMAT = 1
SVM_FOLDS = 3  # of the Platt scaling


class VotingEnsemble:
    """Mean of the probabilities of logistic regression, random forest, gradient boosting and a support vector machine.

    Every one weighs classes inversely to their share. Rows are standardised measures (N, F) without gaps.
    """

    def __init__(self, members: Sequence[Any], classes: int) -> None:
        self.members, self.classes = list(members), classes

    def predict(self, x: FloatArray) -> FloatArray:
        """Rows (N, F) → probabilities (N, K); a class that training did not show has 0."""
        total = np.zeros((len(x), self.classes))
        for member in self.members:
            total[:, member.classes_] += member.predict_proba(x)
        return total / len(self.members)

    def dump(self) -> bytes:
        """The ensemble in skops' format: a zip of arrays and a JSON tree, no code."""
        from skops.io import dumps

        return bytes(dumps({"format": FORMAT, "classes": self.classes, "members": self.members}))


def load(content: bytes, name: str = "ensemble") -> VotingEnsemble:
    """The ensemble that `Ensemble.dump` wrote; `ModelError` where it is broken or holds any type not named here."""
    from skops.io import get_untrusted_types, loads

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            size = sum(info.file_size for info in parts.infolist())
        if size > len(content):  # nothing in it is compressed
            raise ModelError(f"{name}: {len(content)} bytes that claim to be {size}; it is not loaded")
        foreign = sorted(set(get_untrusted_types(data=content)) - set(TRUSTED))
        if foreign:
            raise ModelError(f"{name}: holds {', '.join(foreign)}, which no ensemble is made of; it is not loaded")
        stored = loads(content, trusted=TRUSTED)
        if stored["format"] != FORMAT:
            raise ModelError(f"{name}: written in format {stored['format']}, this medseg reads {FORMAT}")
        return VotingEnsemble(stored["members"], stored["classes"])
    except ModelError:
        raise
    except Exception as error:  # a broken zip, JSON or array raises whatever it likes
        raise ModelError(f"{name}: cannot be read ({type(error).__name__}: {error}); copy the run again") from error


def fit(
    x: FloatArray, y: IntArray, classes: int, trees: int = 300, seed: int = 0, patients: npt.NDArray[Any] | None = None
) -> VotingEnsemble:
    """Learn from rows (N, F) and class numbers (N,); `DataError` (one-class) where only one class is there.

    patients (N,): whose rows never part where a member is calibrated inside; None: each row is another's.
    """
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    counts = np.bincount(y, minlength=classes)
    if (counts > 0).sum() < 2:
        raise DataError(
            f"an ensemble needs cases of at least two classes, got {np.flatnonzero(counts).tolist()}", code="one-class"
        )
    weight = len(y) / ((counts > 0).sum() * counts[y])  # (N,)
    boosting = GradientBoostingClassifier(
        n_estimators=trees // 3, learning_rate=0.05, max_depth=3, subsample=0.7, min_samples_leaf=5, random_state=seed
    )
    members = [
        LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000).fit(x, y),
        RandomForestClassifier(
            trees, min_samples_leaf=3, class_weight="balanced_subsample", n_jobs=1, random_state=seed
        ).fit(x, y),
        boosting.fit(x, y, sample_weight=weight),
    ]
    machine = _machine(y, np.arange(len(y)) if patients is None else patients)
    if machine is None:
        return VotingEnsemble(members, classes)
    machine.fit(x, y).cv = SVM_FOLDS  # which rows they were is not kept
    return VotingEnsemble([*members, machine], classes)


def _machine(y: IntArray, patients: npt.NDArray[Any]) -> Any:
    """A support vector machine with Platt's probabilities; None where a class has too few patients for its folds."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    if min(len(np.unique(patients[y == k])) for k in np.unique(y)) < SVM_FOLDS:
        return None
    folds = stratified_group_folds(y, patients, SVM_FOLDS)
    if any(len(np.unique(y[rest])) < len(np.unique(y)) for rest, _ in folds):
        return None
    return CalibratedClassifierCV(SVC(C=1.0, gamma="scale", class_weight="balanced"), ensemble=False, cv=folds)
