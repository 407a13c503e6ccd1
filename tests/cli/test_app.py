import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medseg.cli.app import main
from tests.conftest import ROOT, TINY, TINY_UNET, posix

Command = Callable[..., Any]
MEDSEG = [str(Path(sys.executable).with_name("medseg"))]


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['medseg', '--help']; import medseg.cli.app\n"
        "try: medseg.cli.app.main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'SimpleITK', 'hydra', 'sklearn', 'albumentations'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    best = 9.0
    for _ in range(3):
        before = os.times()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        after = os.times()  # its processor's time: the clock on the wall also runs for other tests
        used = [getattr(after, f"children_{kind}") - getattr(before, f"children_{kind}") for kind in ("user", "system")]
        best = min(best, sum(used))
        assert done.returncode == 0, done.stderr
    assert "extract-features" in done.stdout
    assert best < 1.0  # 0.2 s on a quiet machine


def test_a_misspelt_key_ends_in_two_seconds_with_status_2() -> None:
    before = os.times()
    done = subprocess.run(
        [*MEDSEG, "train", "organ=lung", "trainer.max_tim=1"], capture_output=True, text=True, check=False
    )
    after = os.times()
    # of the processor: what else runs on the machine does not count
    assert after.children_user + after.children_system - before.children_user - before.children_system < 2
    assert done.returncode == 2
    assert done.stdout == ""
    assert "did you mean trainer.max_time" in done.stderr
    assert "Traceback" not in done.stderr


def test_config_prints_resolved_settings(medseg: Command) -> None:
    result = medseg("config", "organ=lung", "seed=5")
    assert result.status == 0
    assert "\nseed: 5\n" in result.out
    assert "${" not in result.out


def test_a_usage_error_is_status_2(medseg: Command) -> None:
    assert medseg("segment", "only_one").status == 2
    assert medseg("nonsense").status == 2


def test_doctor_knows_the_machine(medseg: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = medseg("doctor")
    assert result.status in (0, 1)
    for word in ("medseg doctor", "torch", "cores", "bf16", "lung"):
        assert word in result.err


def test_phantoms_are_made_and_checked(medseg: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert medseg("data", "phantom", "lung", "p", "--patients", 2).status == 0
    again = medseg("data", "phantom", "lung", "p")
    assert again.status == 2
    result = medseg("data", "check", "p", "organ=lung", "--json")
    assert result.status == 0
    assert json.loads(result.out)["counts"] == {"ok": 2}


def test_data_check_lists_all_problems(
    medseg: Command, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    import SimpleITK as sitk

    monkeypatch.chdir(tmp_path)
    shutil.copytree(cohort, "d")
    masks = sorted(Path("d/masks").glob("*"))
    sitk.WriteImage(sitk.ReadImage(str(masks[0])) * 0, str(masks[0]))
    sitk.WriteImage(sitk.ReadImage(str(masks[1])) * 4, str(masks[1]))
    sitk.WriteImage(sitk.ReadImage(str(masks[2]))[:-1], str(masks[2]))
    masks[3].write_bytes(masks[3].read_bytes()[:-100])
    result = medseg("data", "check", "d", "organ=lung", "--json")
    assert result.status == 3
    statuses = {entry["case"]: (entry["status"], entry["code"]) for entry in json.loads(result.out)["entries"]}
    assert statuses == {
        "lung000": ("review", "review"),
        "lung001": ("failed", "mask-label"),
        "lung002": ("failed", "mask-grid"),
        "lung003": ("failed", "image-truncated"),
        "lung004": ("ok", ""),
    }


def test_report_and_evaluate_from_the_command_line(
    medseg: Command, cohort: Path, segmenter: Path, classifier_run: Path, tmp_path: Path
) -> None:
    result = medseg("evaluate", cohort / "masks", cohort / "masks", "--out", tmp_path / "ev", "--json")
    assert result.status == 0
    assert json.loads(result.out)["macro"]["dice"]["mean"] == 1
    result = medseg("report", segmenter, classifier_run, tmp_path / "ev", "--out", tmp_path / "r.html")
    assert result.status == 0
    assert result.out.strip() == str(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "esearch use only" in page
    assert "http://" not in page
    assert "https://" not in page


def test_report_refuses_an_altered_run(medseg: Command, classifier_run: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(classifier_run, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.json"
    metrics.write_text(metrics.read_text().replace("accuracy", "acuracy"))
    result = medseg("report", tmp_path / "run")
    assert result.status == 2
    assert "was changed after training" in result.err


def test_completion_offers_groups_and_choices() -> None:
    from medseg.cli.options import complete

    assert "organ=" in complete("or")
    assert complete("organ=l") == ["organ=lung"]
    assert "trainer=quick" in complete("trainer=")


@posix
def test_ctrl_c_is_status_130(cohort: Path, tmp_path: Path) -> None:
    places = [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}"]
    process = subprocess.Popen(
        [*MEDSEG, "train", *TINY, *TINY_UNET, *places, "segmenter.max_samples=100000000"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    history = tmp_path / "run" / "fingerprint.json"
    for _ in range(600):
        if history.exists():
            break
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err


# Opens no socket but to itself: any other connection ends the process.
REFUSE = """
import socket, sys
def refuse(*_args, **_kw): raise SystemExit("network was asked for")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
from medseg.cli.app import main
sys.argv = ["medseg", *sys.argv[1:]]
main()
"""


def test_training_and_segmenting_ask_for_no_network(cohort: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    run = tmp_path / "run"
    places = [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}", f"run_dir={run}", "segmenter.max_samples=200"]
    train = ["train", *TINY, *TINY_UNET, *places]
    segment = ["segment", str(cohort / "images"), str(tmp_path / "out"), "--model", str(run)]
    for words in (train, segment):
        done = subprocess.run(
            [sys.executable, "-c", REFUSE, *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        assert "network was asked for" not in done.stderr


def test_a_signal_ends_with_130_whatever_a_library_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # `main` leaves its own, as the process ends then

    def busy() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise AttributeError("half a state")

    with pytest.raises(SystemExit) as end:
        main(busy)
    assert end.value.code == 130


def test_an_interruption_inside_a_destructor_is_not_lost(tmp_path: Path) -> None:
    """Python prints what a destructor raises and goes on."""
    code = """
import signal, time
from medseg.cli.app import main
class Thing:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
def work():
    thing = Thing()
    del thing
    time.sleep(20)
    print("went on")
main(work)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == 130
    assert done.stderr == "interrupted\n"
    assert done.stdout == ""


def test_version_option_prints_the_version_as_a_module_too(medseg: Command) -> None:
    from medseg import __version__

    assert medseg("--version") == (0, f"medseg {__version__}\n", "")
    done = subprocess.run([sys.executable, "-m", "medseg", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"medseg {__version__}\n"
