"""Windows and macOS, which have less than Linux: what they lack is hidden from medseg, and it works all the same.

`HIDE` stands in a sitecustomize.py, so that worker processes lack it too. Only what medseg's and the tests' own modules
ask for is hidden: the libraries below have Windows' ways of their own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.data.cases import Columns
from medseg.data.readers import read_cases
from medseg.errors import DataError
from medseg.utils.files import unfit_name
from tests.conftest import ROOT, TINY, TINY_UNET, tree

HIDE = '''
import builtins, errno, os, signal, sys, types
GONE = {"fcntl", "resource", "termios", "pwd", "grp", "pty", "tty", "syslog", "posix", "readline", "curses"}
WITHOUT = {
    "os": {"fork", "forkpty", "getuid", "geteuid", "getgid", "getegid", "getsid", "setsid", "getpgid", "killpg",
        "mkfifo", "mknod", "sched_getaffinity", "sched_setaffinity", "statvfs", "fchmod", "fchown", "chown", "chroot",
        "getloadavg", "nice", "uname", "sysconf", "wait", "waitid", "register_at_fork", "posix_spawn", "sync",
        "O_NONBLOCK", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "SCHED_OTHER", "getgroups", "pread", "pwrite"},
    "signal": {"SIGKILL", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGCHLD", "SIGCONT",
        "SIGSTOP", "pthread_sigmask", "pthread_kill", "alarm", "setitimer", "getitimer", "pause", "sigwait",
        "sigpending", "SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK", "siginterrupt"},
    "time": {"clock_gettime", "tzset", "pthread_getcpuclockid"},
    "socket": {"AF_UNIX", "sendmsg", "recvmsg"},
}

def fsync(handle):
    """Windows syncs no file that is open for reading only."""
    import fcntl
    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    os.fsync(handle)

def open_(path, *rest, **named):
    """Nor does it open folders."""
    if os.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)
    return os.open(path, *rest, **named)

def moving(move):
    """Windows neither moves a file that is open, nor a folder around one, nor writes over one."""
    def moved(source, target, **places):
        busy = {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}
        for path in map(os.path.realpath, (source, target)):
            if any(file == path or file.startswith(path + os.sep) for file in busy):
                raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))
        return move(source, target, **places)
    return moved

os.replace, os.rename = moving(os.replace), moving(os.rename)
STANDS = {"os": {"fsync": fsync, "open": open_}}

def lesser(name):
    whole, part = sys.modules[name], types.ModuleType(name)
    part.__dict__.update({key: value for key, value in vars(whole).items() if key not in WITHOUT[name]})
    part.__dict__.update(STANDS.get(name, {}))
    return part

import multiprocessing, socket, time
multiprocessing.set_start_method("spawn")
LESSER = {name: lesser(name) for name in WITHOUT}
load = builtins.__import__

def importing(name, globals=None, locals=None, fromlist=(), level=0):
    if globals and str(globals.get("__name__")).split(".")[0] in ("medseg", "tests", "__main__"):
        if name.split(".")[0] in GONE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in LESSER and level == 0:
            return LESSER[name]
    return load(name, globals, locals, fromlist, level)

builtins.__import__ = importing
'''
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in (ROOT / "medseg").rglob("*.py")
    if file.name != "__main__.py"
)
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Run:
    """Run Python with arguments where what Windows or macOS lack is hidden."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("the things are hidden by Linux's means; here they are missing indeed")
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text(HIDE)
    path = os.pathsep.join([str(tmp_path / "hide"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, words)]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def photos(folder: Path, count: int) -> Path:
    """Photographs of a dark disc, each at another place."""
    folder.mkdir()
    y, x = np.mgrid[:64, :64]
    for number in range(count):
        disc = np.hypot(y - 32 + number, x - 32) < 16
        colours = np.where(disc[..., None], (120, 70, 50), (220, 180, 160)).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(folder / f"p{number}.png"))
    return folder


def test_platforms_preamble_hides_and_forbids(elsewhere: Run, tmp_path: Path) -> None:
    code = """
import os, signal
assert not hasattr(os, "fork") and not hasattr(signal, "SIGKILL") and not hasattr(signal, "pthread_sigmask")
for work in (lambda: __import__("fcntl", {"__name__": "medseg.x"}), lambda: os.open(".", os.O_RDONLY),
             lambda: os.fsync(only.fileno()), lambda: os.replace("open", "moved")):
    try:
        work()
    except (ImportError, OSError):
        print("refused")
"""
    (tmp_path / "file").write_text("x")
    (tmp_path / "open").write_text("x")
    done = elsewhere("-c", "only, file = open('file', 'rb'), open('open')\n" + code)
    assert done.stdout.split() == ["refused"] * 4, done.stderr


def test_platforms_every_module_imports(elsewhere: Run) -> None:
    code = f"import importlib\nfor name in {MODULES}: importlib.import_module(name)\nprint('all')"
    done = elsewhere("-W", "ignore", "-c", code)
    assert done.stdout.split() == ["all"], done.stderr


def test_platforms_every_test_imports(elsewhere: Run) -> None:
    settings = ["-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider"]
    done = elsewhere("-m", "pytest", "--collect-only", "-q", *settings, ROOT / "tests")
    assert done.returncode == 0, done.stdout[-3000:]


def test_platforms_help_is_shown(elsewhere: Run) -> None:
    done = elsewhere("-m", "medseg", "--help")
    assert (done.returncode, "extract-features" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_platforms_a_folder_is_segmented(elsewhere: Run, rule: Path, tmp_path: Path, workers: int) -> None:
    """All of it, as on Linux, and again from what is there; a package is unpacked and removed too."""
    source = photos(tmp_path / "photos", 4)
    words = ["-m", "medseg", "segment", source, tmp_path / "out", "--model", tmp_path / "m.zip", "-q", "--json"]
    assert elsewhere("-m", "medseg", "model", "export", rule, tmp_path / "m.zip").returncode == 0
    for _ in range(2):
        done = elsewhere(*words, "--workers", workers)
        assert done.returncode == 0, done.stderr
        assert set(json.loads(done.stdout)["counts"]) <= {"ok", "review"}
    assert sorted(tree(tmp_path / "out")) == [f"p{number}.png" for number in range(4)]
    assert not list(tmp_path.glob("medseg-*"))


@pytest.mark.slow
def test_platforms_a_network_is_trained_by_spawned_loaders(elsewhere: Run, cohort: Path, tmp_path: Path) -> None:
    places = [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}"]
    done = elsewhere(
        "-m", "medseg", "train", *TINY, *TINY_UNET, *places, "segmenter.max_samples=600", "compute.num_workers=2"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "manifest.json").is_file()


def test_platforms_an_output_is_locked_until_its_process_is_dead(elsewhere: Run, tmp_path: Path) -> None:
    code = """
import os, subprocess, sys
from pathlib import Path
from medseg.errors import MedsegError
from medseg.utils.locks import lock_output
with lock_output(Path("out")):
    if sys.argv[1] == "first":
        done = subprocess.run([sys.executable, *sys.orig_argv[1:-1], "second"], capture_output=True, text=True)
        print(done.stderr.strip().splitlines()[-1])
        os._exit(9)
print("free")
"""
    (tmp_path / "lock.py").write_text(code)
    first = elsewhere("lock.py", "first")
    assert "another medseg process is writing there" in first.stdout, first.stderr
    assert first.returncode == 9
    assert elsewhere("lock.py", "second").stdout.strip() == "free"


def test_platforms_what_a_terminal_has_no_character_for_is_escaped(elsewhere: Run) -> None:
    code = "from medseg.cli.app import main\nimport typer\nmain(lambda: typer.echo('Dice ≥ .9'))"
    done = elsewhere("-c", f"import sys\nsys.stdout.reconfigure(encoding='cp1252', errors='strict')\n{code}")
    assert done.stdout.strip() == r"Dice \u2265 .9", done.stderr


@pytest.mark.parametrize(
    "name", ["con", "P1/nul.x", "COM1", "a:b", "C:a", "a?", 'a"b', "a<b", "a|b", "a.", "a /b", "/a", "\\a", "a*"]
)
def test_unfit_name_on_windows_is_an_error_of_the_table(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "cases.csv").write_text("case,image\n" + '"' + name.replace('"', '""') + '"' + ",a.png\n")
    assert not unfit_name(name)
    monkeypatch.setattr("medseg.utils.files.WINDOWS", True)
    with pytest.raises(DataError, match="rename it"):
        read_cases(tmp_path, ["image"], Columns())


@pytest.mark.parametrize("name", ["console", "P1/scan 3", "a.b", "com10", "Läsion é", "nulla/com"])
def test_unfit_name_on_windows_is_none_of_the_usual(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.utils.files.WINDOWS", True)
    assert not unfit_name(name)
