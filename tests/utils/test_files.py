"""Digests of files and folders."""

import hashlib
from pathlib import Path

import pytest

from medseg.utils.files import hash_path


def folder(root: Path, **files: bytes) -> Path:
    for name, content in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return root


def test_hash_path_file_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(256)) * 5000
    folder(tmp_path, a=content)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read whole into memory"))
    assert hash_path(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    hash_path(tmp_path)


def test_hash_path_of_folder_depends_on_content_only(tmp_path: Path) -> None:
    digest = hash_path(folder(tmp_path / "one", a=b"1", deep__b=b"23"))
    assert digest == hash_path(folder(tmp_path / "same", x=b"1", y=b"23"))
    assert digest != hash_path(folder(tmp_path / "cut", a=b"12", deep__b=b"3"))  # the same bytes one after the other
    assert digest != hash_path(folder(tmp_path / "turned", a=b"23", deep__b=b"1"))
    assert digest != hash_path(folder(tmp_path / "less", a=b"1"))


def test_hash_path_of_missing_path_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hash_path(tmp_path / "none")
