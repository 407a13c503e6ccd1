"""Soft voting of four scikit-learn classifiers on a table of features, stored without pickle."""

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

# types that a stored ensemble may hold, besides those that skops itself trusts
TRUSTED = [
    "sklearn.tree._tree.Tree",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
]
FORMAT = 1
SVM_FOLDS = 3  # folds of the SVM's Platt scaling


class VotingEnsemble:
    """Mean of the probabilities of logistic regression, random forest, gradient boosting and a support vector machine.

    Each member weights classes inversely to their frequency. Rows are standardised features (N, F) without gaps.
    """

    def __init__(self, members: Sequence[Any], classes: int) -> None:
        self.members, self.classes = list(members), classes

    @classmethod
    def fit(
        cls,
        x: FloatArray,
        y: IntArray,
        classes: int,
        trees: int = 300,
        seed: int = 0,
        patients: npt.NDArray[Any] | None = None,
    ) -> VotingEnsemble:
        """Fit on rows (N, F) and class numbers (N,); raises `DataError` (one-class) if only one class occurs.

        patients (N,): the SVM's calibration folds keep the rows of a patient together; None: one row per patient.
        """
        counts = np.bincount(y, minlength=classes)
        if (counts > 0).sum() < 2:
            raise DataError(
                f"an ensemble needs cases of at least two classes, got {np.flatnonzero(counts).tolist()}",
                code="one-class",
            )
        members = _fit_members(x, y, trees, seed)
        svm = _calibrated_svm(y, np.arange(len(y)) if patients is None else patients)
        if svm is None:
            return cls(members, classes)
        svm.fit(x, y).cv = SVM_FOLDS  # the stored model does not keep the rows of its folds
        return cls([*members, svm], classes)

    @classmethod
    def load(cls, content: bytes, name: str = "ensemble") -> VotingEnsemble:
        """Read what `dump` wrote; raises `ModelError` if it is broken or holds a type that is not in `TRUSTED`."""
        from skops.io import get_untrusted_types, loads

        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                size = sum(info.file_size for info in archive.infolist())
            if size > len(content):  # nothing in it is compressed
                raise ModelError(f"{name}: {len(content)} bytes that claim to be {size}; it is not loaded")
            foreign = sorted(set(get_untrusted_types(data=content)) - set(TRUSTED))
            if foreign:
                raise ModelError(
                    f"{name}: holds {', '.join(foreign)}, which an ensemble never contains; it is not loaded"
                )
            stored = loads(content, trusted=TRUSTED)
            if stored["format"] != FORMAT:
                raise ModelError(f"{name}: written in format {stored['format']}, this medseg reads {FORMAT}")
            return cls(stored["members"], stored["classes"])
        except ModelError:
            raise
        except Exception as error:  # a broken zip, JSON or array raises whatever it likes
            raise ModelError(f"{name}: cannot be read ({type(error).__name__}: {error}); copy the run again") from error

    def predict(self, x: FloatArray) -> FloatArray:
        """Rows (N, F) → probabilities (N, K); 0 for a class without training rows."""
        total = np.zeros((len(x), self.classes))
        for member in self.members:
            total[:, member.classes_] += member.predict_proba(x)
        return total / len(self.members)

    def dump(self) -> bytes:
        """The ensemble in skops' format: a zip of arrays and a JSON tree, no code."""
        from skops.io import dumps

        return bytes(dumps({"format": FORMAT, "classes": self.classes, "members": self.members}))


def _fit_members(x: FloatArray, y: IntArray, trees: int, seed: int) -> list[Any]:
    """Logistic regression, random forest and gradient boosting, each fitted on rows (N, F) and classes (N,)."""
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    counts = np.bincount(y)
    weight = len(y) / ((counts > 0).sum() * counts[y])  # (N,)
    boosting = GradientBoostingClassifier(
        n_estimators=trees // 3, learning_rate=0.05, max_depth=3, subsample=0.7, min_samples_leaf=5, random_state=seed
    )
    return [
        LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000).fit(x, y),
        RandomForestClassifier(
            trees, min_samples_leaf=3, class_weight="balanced_subsample", n_jobs=1, random_state=seed
        ).fit(x, y),
        boosting.fit(x, y, sample_weight=weight),
    ]


def _calibrated_svm(y: IntArray, patients: npt.NDArray[Any]) -> Any:
    """A support vector machine with Platt scaling; None if a class has too few patients for its folds."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    if min(len(np.unique(patients[y == k])) for k in np.unique(y)) < SVM_FOLDS:
        return None
    folds = stratified_group_folds(y, patients, SVM_FOLDS)
    if any(len(np.unique(y[train])) < len(np.unique(y)) for train, _ in folds):
        return None
    return CalibratedClassifierCV(SVC(C=1.0, gamma="scale", class_weight="balanced"), ensemble=False, cv=folds)
