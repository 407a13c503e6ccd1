"""Repeat a run from its own settings and split, and say whether the same came out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from medseg.config.checks import flatten
from medseg.config.load import load, with_values
from medseg.errors import EXIT_OK, EXIT_SOME, ConfigError
from medseg.runs.run import Run
from medseg.training.train import train
from medseg.utils.console import say, table
from medseg.utils.files import write_json

SHOWN = 12  # rows of a table of differences; reproduction.json has all


class Difference(NamedTuple):
    """What is not the same: a file, a score, a version."""

    what: str
    before: Any
    now: Any


def reproduce(run: Run, out: Path | None, given: dict[str, Any]) -> int:
    """Train again in `out` (RUN-again where None) and compare; reproduction.json in the new run has the outcome.

    given: settings of the data's place and of the executor that replace the run's own. The threads are as many as the
    run had. Returns 0 where weights and scores are equal, else 3.
    """
    config = load(run.file("config.yaml"))
    threads = run.read_json("manifest.json").get("machine", {}).get("threads")
    place = out or run.path.with_name(f"{run.path.name}-again")
    own: dict[str, Any] = {"run_dir": str(place), "resume": None}
    if threads is not None:
        own["compute.num_threads"] = int(threads)
    strange = [name for name in given if not name.startswith(("data.root", "data.cache", "compute."))]
    if strange:
        raise ConfigError(f"{strange[0]}: a repetition may be given data.root, data.cache and compute.* only")
    again = train(with_values(config, own | given), like=run).run
    return _tell(run, again)


def compare(one: Run, two: Run) -> dict[str, list[Difference]]:
    """Differences of two finished runs, by kind: weights and metrics (the results); versions and machine (reasons)."""
    manifests = one.read_json("manifest.json"), two.read_json("manifest.json")
    hashes = [m["sha256"] for m in manifests]
    made_of = (
        "model.safetensors", "calibration.json", "stacking.json", "ensemble.skops", "candidates.json",
        "preprocess.json",
    )  # fmt: skip
    weights = [Difference(n, hashes[0].get(n), hashes[1].get(n)) for n in made_of]
    versions = [{"medseg": m["medseg"], "python": m["python"], **m["versions"]} for m in manifests]
    machines = [m.get("machine", {}) for m in manifests]
    scores = [flatten(run.read_json("metrics.json")) for run in (one, two)]
    return {
        "weights": [d for d in weights if d.before != d.now],
        "metrics": _differences(*scores),
        "versions": _differences(*versions),
        "machine": _differences(*machines),
    }


def _differences(one: dict[str, Any], two: dict[str, Any]) -> list[Difference]:
    pairs = [Difference(name, one.get(name), two.get(name)) for name in {**one, **two}]
    return [pair for pair in pairs if not _same(pair.before, pair.now)]


def _same(one: Any, two: Any) -> bool:
    both = isinstance(one, float) and isinstance(two, float)
    return one == two or (both and math.isnan(one) and math.isnan(two))


def _tell(run: Run, again: Run) -> int:
    found = compare(run, again)
    same = not found["weights"] and not found["metrics"]
    content = {kind: [pair._asdict() for pair in pairs] for kind, pairs in found.items()}
    write_json(again.file("reproduction.json"), {"of": str(run.path), "equal": same, **content})
    if same:
        say(f"{again.path}: weights and scores are those of {run.path}")
        return EXIT_OK
    rows = [[kind, pair.what, pair.before, pair.now] for kind, pairs in found.items() for pair in pairs]
    short = [[kind, what, *(_short(value) for value in pair)] for kind, what, *pair in rows[:SHOWN]]
    table(f"{again.path} differs from {run.path}", ["", "what", "before", "now"], short)
    if len(rows) > SHOWN:
        say(f"and {len(rows) - SHOWN} more in {again.file('reproduction.json')}")
    if not found["versions"] and not found["machine"]:
        say(
            "versions and machine are the same: the images or masks may have changed since, or the run was extended, "
            "or bounded by trainer.max_time"
        )
    return EXIT_SOME


def _short(value: Any) -> Any:
    return value[:16] if isinstance(value, str) else value
