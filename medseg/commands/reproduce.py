"""`medseg reproduce`: repeat a run from its own settings and split, and compare the results."""

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

MAX_SHOWN = 12  # rows in the printed table of differences; reproduction.json has all


class Difference(NamedTuple):
    """A file, score or version that differs."""

    what: str
    before: Any
    now: Any


def reproduce(run: Run, out: Path | None, overrides: dict[str, Any]) -> int:
    """Train again in `out` (None: RUN-again) and compare; writes reproduction.json in the new run.

    overrides: settings data.root, data.cache and compute.* that replace the run's own. The number of threads is the
    run's. Returns 0 if weights and scores are equal, else 3.
    """
    config = load(run.file("config.yaml"))
    threads = run.read_json("manifest.json").get("machine", {}).get("threads")
    run_dir = out or run.path.with_name(f"{run.path.name}-again")
    settings: dict[str, Any] = {"run_dir": str(run_dir), "resume": None}
    if threads is not None:
        settings["compute.num_threads"] = int(threads)
    refused = [name for name in overrides if not name.startswith(("data.root", "data.cache", "compute."))]
    if refused:
        raise ConfigError(f"{refused[0]}: only data.root, data.cache and compute.* can be changed to reproduce a run")
    again = train(with_values(config, settings | overrides), like=run).run
    return _report(run, again)


def compare(first: Run, second: Run) -> dict[str, list[Difference]]:
    """Differences of two finished runs: weights and metrics (the results), versions and machine (possible reasons)."""
    manifests = first.read_json("manifest.json"), second.read_json("manifest.json")
    hashes = [m["sha256"] for m in manifests]
    weight_files = (
        "model.safetensors", "calibration.json", "stacking.json", "ensemble.skops", "candidates.json",
        "preprocess.json",
    )  # fmt: skip
    weights = [Difference(n, hashes[0].get(n), hashes[1].get(n)) for n in weight_files]
    versions = [{"medseg": m["medseg"], "python": m["python"], **m["versions"]} for m in manifests]
    machines = [m.get("machine", {}) for m in manifests]
    scores = [flatten(run.read_json("metrics.json")) for run in (first, second)]
    return {
        "weights": [pair for pair in weights if pair.before != pair.now],
        "metrics": _differences(*scores),
        "versions": _differences(*versions),
        "machine": _differences(*machines),
    }


def _differences(first: dict[str, Any], second: dict[str, Any]) -> list[Difference]:
    pairs = [Difference(name, first.get(name), second.get(name)) for name in {**first, **second}]
    return [pair for pair in pairs if not _same(pair.before, pair.now)]


def _same(first: Any, second: Any) -> bool:
    both = isinstance(first, float) and isinstance(second, float)
    return first == second or (both and math.isnan(first) and math.isnan(second))


def _report(run: Run, again: Run) -> int:
    differences = compare(run, again)
    same = not differences["weights"] and not differences["metrics"]
    content = {kind: [pair._asdict() for pair in pairs] for kind, pairs in differences.items()}
    write_json(again.file("reproduction.json"), {"of": str(run.path), "equal": same, **content})
    if same:
        say(f"{again.path}: weights and scores are equal to those of {run.path}")
        return EXIT_OK
    rows = [[kind, pair.what, pair.before, pair.now] for kind, pairs in differences.items() for pair in pairs]
    lines = [[kind, what, *(_short(value) for value in pair)] for kind, what, *pair in rows[:MAX_SHOWN]]
    table(f"{again.path} differs from {run.path}", ["", "what", "before", "now"], lines)
    if len(rows) > MAX_SHOWN:
        say(f"… and {len(rows) - MAX_SHOWN} more in {again.file('reproduction.json')}")
    if not differences["versions"] and not differences["machine"]:
        say(
            "versions and machine are the same: the images or masks may have changed, the run may have been extended "
            "or limited by trainer.max_time"
        )
    return EXIT_SOME


def _short(value: Any) -> Any:
    return value[:16] if isinstance(value, str) else value
