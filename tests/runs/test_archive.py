"""Packages that differ in any byte from what medseg writes raise."""

import hashlib
import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import ModelError
from medseg.runs.archive import MANIFEST, MEMBER_DATE, is_pickle, pack, unpack

ALLOWED = frozenset({MANIFEST, "config.yaml", "model.safetensors", "encoder/config.yaml"})
Zip = Callable[[zipfile.ZipFile], None]


def members(**more: bytes) -> dict[str, bytes]:
    """Two files, `more`, and a manifest that fits them all."""
    files = {"config.yaml": b"task: segmentation\n", "model.safetensors": b"\x08" + bytes(range(64)), **more}
    manifest = {
        "package": {"schema": 1},
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "bytes": {name: len(content) for name, content in files.items()},
    }
    return {**files, MANIFEST: json.dumps(manifest).encode()}


def refused(tmp_path: Path, content: bytes, code: str, word: str = ".") -> None:
    file = tmp_path / "m.zip"
    file.write_bytes(content)
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(ModelError, match=rf"m\.zip\b.*{word}") as caught:  # after the path, which has words of its own
        unpack(file, ALLOWED)
    assert sorted(tmp_path.parent.rglob("*")) == before
    assert caught.value.code == code
    assert str(file) in str(caught.value)


def made(extra: Zip, files: dict[str, bytes] | None = None) -> bytes:
    """A zip of the members with something more in it."""
    stream = io.BytesIO(pack(files or members()))
    with zipfile.ZipFile(stream, "a") as archive:
        extra(archive)
    return stream.getvalue()


def test_pack_then_unpack_returns_the_files_deterministically(tmp_path: Path) -> None:
    files = members()
    (tmp_path / "m.zip").write_bytes(pack(files))
    assert unpack(tmp_path / "m.zip", ALLOWED) == files
    assert pack(files) == pack(dict(reversed(files.items())))
    with zipfile.ZipFile(tmp_path / "m.zip") as archive:
        assert archive.namelist() == sorted(files)
        assert {info.date_time for info in archive.infolist()} == {MEMBER_DATE}


def test_unpack_any_flipped_bit_raises(tmp_path: Path) -> None:
    """One bit of every byte: members, names, dates, rights, sizes, the directory and its end."""
    content = pack(members())
    file, rng = tmp_path / "m.zip", np.random.default_rng(0)
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(ModelError):
            unpack(file, ALLOWED)


def test_unpack_truncated_or_extended_raises(tmp_path: Path) -> None:
    content = pack(members())
    for length in range(0, len(content), 7):
        refused(tmp_path, content[:length], "package-altered")
    for longer in (content + b"x", b"x" + content, content + content):
        refused(tmp_path, longer, "package-altered")


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/etc/evil", "\\\\host\\evil", "C:\\evil", "c:evil", "..\\evil", "a\0.yaml", "//evil"],
)
def test_unpack_path_outside_raises(tmp_path: Path, name: str) -> None:
    plain = "X" * len(name)  # the writer would mend a NUL or a backslash
    content = made(lambda archive: archive.writestr(zipfile.ZipInfo(plain, MEMBER_DATE), b"x"))
    refused(tmp_path, content.replace(plain.encode(), name.encode()), "package-unsafe", "outside")


def test_unpack_unsafe_members_raise(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("config.yaml", MEMBER_DATE)
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(link, b"/etc/passwd")
    refused(tmp_path, stream.getvalue(), "package-unsafe", "is a link")
    for name in ("a.pkl", "encoder/last.CKPT", "model.pt", "x.joblib"):
        content = made(lambda archive, name=name: archive.writestr(name, b"x"))
        refused(tmp_path, content, "package-unsafe", "pickle")
    for name in ("notes.txt", "config.yaml/", "encoder/encoder/config.yaml", "Config.yaml"):
        content = made(lambda archive, name=name: archive.writestr(name, b"x"))
        refused(tmp_path, content, "package-unsafe", "no package has")
    with pytest.warns(UserWarning, match="Duplicate"):
        content = made(lambda archive: archive.writestr("config.yaml", b"x"))
    refused(tmp_path, content, "package-unsafe", "twice")


@pytest.mark.parametrize("content", [b"\x80\x04\x95pickle", b"\x80\x02}q\x00.", b"PK\x03\x04 as torch writes"])
def test_unpack_renamed_pickle_raises(tmp_path: Path, content: bytes) -> None:
    refused(tmp_path, pack(members(**{"model.safetensors": content})), "package-unsafe", "is a pickle")
    assert not is_pickle("ensemble.skops", b"PK\x03\x04")


def test_unpack_encrypted_member_raises(tmp_path: Path) -> None:
    content = bytearray(pack(members()))
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    refused(tmp_path, bytes(content), "package-unsafe", "encrypted")


def test_unpack_bomb_raises_before_reading(tmp_path: Path) -> None:
    squeezed = zipfile.ZipInfo("encoder/config.yaml", MEMBER_DATE)
    squeezed.compress_type = zipfile.ZIP_DEFLATED
    content = made(lambda archive: archive.writestr(squeezed, bytes(50_000_000)))
    assert len(content) < 100_000
    refused(tmp_path, content, "package-unsafe", "compressed .* become 50000000")
    content = bytearray(pack(members()))  # a directory that claims more than the file holds
    at = content.index(b"PK\x01\x02")
    content[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)
    refused(tmp_path, bytes(content), "package-unsafe", "claim to hold")


def test_unpack_member_that_differs_from_manifest_raises(tmp_path: Path) -> None:
    files = members()
    refused(tmp_path, pack({**files, "encoder/config.yaml": b"x"}), "package-altered", "not in the manifest")
    refused(tmp_path, pack({k: v for k, v in files.items() if k != "config.yaml"}), "package-altered", "missing")
    refused(
        tmp_path,
        pack({**files, "config.yaml": b"task: diagnosis!!!\n"}),
        "package-altered",
        "differs from the manifest",
    )


@pytest.mark.parametrize(
    ("manifest", "code"),
    [
        ({"package": {"schema": 2}}, "package-schema"),
        ({"package": {"schema": "1"}}, "package-schema"),
        ({"schema": 1}, "package-schema"),
        ({"package": {"schema": 1}}, "package-altered"),
        ({"package": {"schema": 1}, "sha256": [], "bytes": {}}, "package-altered"),
        ([], "package-schema"),
    ],
)
def test_unpack_unknown_schema_raises(tmp_path: Path, manifest: object, code: str) -> None:
    refused(tmp_path, pack({**members(), MANIFEST: json.dumps(manifest).encode()}), code)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_unpack_invalid_manifest_raises(tmp_path: Path, content: bytes) -> None:
    refused(tmp_path, pack({**members(), MANIFEST: content}), "package-altered")


def test_unpack_not_a_zip_or_missing_raises(tmp_path: Path) -> None:
    refused(tmp_path, b"", "package-altered")
    refused(tmp_path, b"\x80\x04pickle", "package-altered", "not a complete package")
    with pytest.raises(ModelError, match="cannot be read"):
        unpack(tmp_path / "nowhere.zip", ALLOWED)
