"""A model as one file: a zip in one canonical form, so that a single flipped bit shows, and read without trust."""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import struct
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from medseg.errors import ModelError

SCHEMA = 1
MANIFEST = "manifest.json"
DATE = (1980, 1, 1, 0, 0, 0)  # of every member: the same model is the same bytes
LARGEST = 2**31 - 1  # bytes; a zip needs no extension of its format below
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".npy", ".npz")
# what reading a damaged zip may raise
BROKEN = (zipfile.BadZipFile, RuntimeError, ValueError, OSError, EOFError, OverflowError, struct.error)


def pack(members: Mapping[str, bytes]) -> bytes:
    """The zip of some files: sorted, uncompressed, all of one date, so that the same files are the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, DATE)
            info.create_system = 3  # Unix, wherever it is made
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, members[name])
    return stream.getvalue()


def unpack(file: Path, allowed: Collection[str]) -> dict[str, bytes]:
    """The files of a package by name, each as the manifest says; nothing is written and nothing is run.

    Raises `ModelError`: package-unsafe for a name, kind or size that no package has, package-schema for a format that
    is not read here, package-altered where a byte is not as it was written.
    """
    try:
        size = file.stat().st_size
        content = file.read_bytes() if size <= LARGEST else b""
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror})") from error
    if size > LARGEST:
        raise ModelError(f"{file}: {size} bytes; a package has at most {LARGEST}", code="package-unsafe")
    try:
        members = _members(file, content, allowed)
    except BROKEN as error:
        raise ModelError(
            f"{file}: not a whole package ({error}); copy it again, or name the folder that `medseg train` wrote",
            code="package-altered",
        ) from error
    _compare(file, members)
    if pack(members) != content:
        raise ModelError(
            f"{file}: its files are whole, but the zip around them is not as medseg writes it; copy it again, or make "
            "it with `medseg model export`",
            code="package-altered",
        )
    return members


def _members(file: Path, content: bytes, allowed: Collection[str]) -> dict[str, bytes]:
    """Every member whose name and kind are harmless; sizes are bounded before anything is read."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        for info in infos:
            if why := _unsafe(info):
                raise ModelError(
                    f"{file}: member {info.orig_filename!r} {why}; it is not opened", code="package-unsafe"
                )
        names = [info.orig_filename for info in infos]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ModelError(f"{file}: holds {twice[0]!r} twice; it is not opened", code="package-unsafe")
        if strange := sorted(set(names) - set(allowed)):
            raise ModelError(
                f"{file}: holds {strange[0]!r}, which no package has; it is not opened", code="package-unsafe"
            )
        if (total := sum(info.file_size for info in infos)) > len(content):
            raise ModelError(
                f"{file}: {len(content)} bytes that claim to be {total}; it is not opened", code="package-unsafe"
            )
        return {info.filename: archive.read(info) for info in infos}


def _unsafe(info: zipfile.ZipInfo) -> str | None:
    """Why a member must not be opened."""
    name = info.orig_filename
    parts = name.replace("\\", "/").split("/")
    if "\0" in name or parts[0] == "" or ".." in parts or re.match("[A-Za-z]:", name):
        return "leads outside of the package"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.flag_bits & 1:
        return "is encrypted"
    if name.lower().endswith(PICKLES):
        return "may be a pickle, which runs code when it is loaded"
    if info.compress_type != zipfile.ZIP_STORED:
        return f"is compressed ({info.compress_size} bytes that become {info.file_size}), which no package is"
    return None


def _compare(file: Path, members: Mapping[str, bytes]) -> None:
    """Members with what the manifest says of them."""
    manifest = manifest_of(file, members.get(MANIFEST, b""))
    hashes, sizes = manifest.get("sha256"), manifest.get("bytes")
    if not isinstance(hashes, dict) or not isinstance(sizes, dict):
        raise ModelError(
            f"{file}: {MANIFEST} names no hashes; make it with `medseg model export`", code="package-altered"
        )
    there = set(members) - {MANIFEST}
    if different := sorted(there ^ set(hashes)):
        what = "is not in the manifest" if different[0] in there else "is missing"
        raise ModelError(f"{file}: {different[0]} {what}; copy it again", code="package-altered")
    for name, digest in hashes.items():
        if len(members[name]) != sizes.get(name) or hashlib.sha256(members[name]).hexdigest() != digest:
            raise ModelError(f"{file}: {name} is not as the manifest says; copy it again", code="package-altered")
        if is_pickle(name, members[name]):
            raise ModelError(
                f"{file}: {name} is a pickle, which runs code when it is loaded; not opened", code="package-unsafe"
            )


def manifest_of(file: Path, content: bytes) -> dict[str, Any]:
    """manifest.json of a package; `ModelError` (package-schema) where it is of no format that is read here."""
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{file}: has no readable {MANIFEST}; it is no model package", code="package-altered"
        ) from error
    package = manifest.get("package") if isinstance(manifest, dict) else None
    if not isinstance(package, dict):
        raise ModelError(f"{file}: its {MANIFEST} is none of a model package", code="package-schema")
    if package.get("schema") != SCHEMA:
        raise ModelError(
            f"{file}: a package of schema {package.get('schema')!r}, this medseg reads schema {SCHEMA}",
            code="package-schema",
        )
    return dict(manifest)


def is_pickle(name: str, content: bytes) -> bool:
    """Whether a file begins as a pickle, or as the zip around one that torch writes under another name."""
    zipped = content.startswith(b"PK") and not name.endswith(".skops")
    return zipped or (content[:1] == b"\x80" and content[1:2] in b"\x02\x03\x04\x05" and len(content) > 1)
