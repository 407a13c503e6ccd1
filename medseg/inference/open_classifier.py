"""Open the classifier of a finished run."""

from __future__ import annotations

from medseg.config.settings import Settings, StackingSettings
from medseg.inference.case_classifier import CaseClassifier
from medseg.inference.sequence_classifier import SequenceClassifier
from medseg.inference.stacked_classifier import StackedClassifier
from medseg.runs.run import Run


def open_classifier(run: Run, config: Settings) -> CaseClassifier:
    """The classifier of a finished run; `ConfigError` if its model is not a classifier."""
    kind = StackedClassifier if isinstance(config.classifier, StackingSettings) else SequenceClassifier
    with run.reading():
        return kind.from_run(run)
