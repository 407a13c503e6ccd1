"""Model packages: a zip in one canonical form, so that any flipped bit is detected; read as untrusted input."""

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
MEMBER_DATE = (1980, 1, 1, 0, 0, 0)  # of every member: the same model gives the same bytes
MAX_BYTES = 2**31 - 1  # a larger zip needs the ZIP64 extension
PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".npy", ".npz")
# exceptions of reading a damaged zip
BROKEN_ZIP_ERRORS = (zipfile.BadZipFile, RuntimeError, ValueError, OSError, EOFError, OverflowError, struct.error)


def pack(members: Mapping[str, bytes]) -> bytes:
    """A zip of files: sorted, uncompressed, all with one date, so that the same files give the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, MEMBER_DATE)
            info.create_system = 3  # Unix, wherever it is made
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, members[name])
    return stream.getvalue()


def unpack(file: Path, allowed: Collection[str]) -> dict[str, bytes]:
    """The files of a package by name, verified against the manifest; writes no file and runs no code.

    Raises `ModelError`: package-unsafe for a name, kind or size that no package has, package-schema for an
    unsupported format, package-altered where a byte was changed.
    """
    try:
        size = file.stat().st_size
        content = file.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror})") from error
    if size > MAX_BYTES:
        raise ModelError(f"{file}: {size} bytes; a package has at most {MAX_BYTES}", code="package-unsafe")
    try:
        members = _members(file, content, allowed)
    except BROKEN_ZIP_ERRORS as error:
        raise ModelError(
            f"{file}: not a complete package ({error}); copy it again, or name the folder that `medseg train` wrote",
            code="package-altered",
        ) from error
    _compare(file, members)
    if pack(members) != content:
        raise ModelError(
            f"{file}: its files are intact, but the zip is not as medseg writes it; copy it again, or make "
            "it with `medseg model export`",
            code="package-altered",
        )
    return members


def _members(file: Path, content: bytes, allowed: Collection[str]) -> dict[str, bytes]:
    """All members; names, kinds and sizes are checked before anything is read."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        for info in infos:
            if why := _unsafe(info):
                raise ModelError(
                    f"{file}: member {info.orig_filename!r} {why}; it is not opened", code="package-unsafe"
                )
        names = [info.orig_filename for info in infos]
        if duplicates := sorted({name for name in names if names.count(name) > 1}):
            raise ModelError(f"{file}: holds {duplicates[0]!r} twice; it is not opened", code="package-unsafe")
        if unknown := sorted(set(names) - set(allowed)):
            raise ModelError(
                f"{file}: holds {unknown[0]!r}, which no package has; it is not opened", code="package-unsafe"
            )
        if (total := sum(info.file_size for info in infos)) > len(content):
            raise ModelError(
                f"{file}: {len(content)} bytes that claim to hold {total}; it is not opened", code="package-unsafe"
            )
        return {info.filename: archive.read(info) for info in infos}


def _unsafe(info: zipfile.ZipInfo) -> str | None:
    """The reason not to open a member, or None."""
    name = info.orig_filename
    components = name.replace("\\", "/").split("/")
    if "\0" in name or components[0] == "" or ".." in components or re.match("[A-Za-z]:", name):
        return "leads outside of the package"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.flag_bits & 1:
        return "is encrypted"
    if name.lower().endswith(PICKLE_SUFFIXES):
        return "may be a pickle, which runs code when it is loaded"
    if info.compress_type != zipfile.ZIP_STORED:
        return f"is compressed ({info.compress_size} bytes that become {info.file_size}), which no package is"
    return None


def _compare(file: Path, members: Mapping[str, bytes]) -> None:
    """Check members against the manifest's sizes and hashes."""
    manifest = manifest_of(file, members.get(MANIFEST, b""))
    hashes, sizes = manifest.get("sha256"), manifest.get("bytes")
    if not isinstance(hashes, dict) or not isinstance(sizes, dict):
        raise ModelError(
            f"{file}: {MANIFEST} has no hashes; make it with `medseg model export`", code="package-altered"
        )
    present = set(members) - {MANIFEST}
    if different := sorted(present ^ set(hashes)):
        problem = "is not in the manifest" if different[0] in present else "is missing"
        raise ModelError(f"{file}: {different[0]} {problem}; copy it again", code="package-altered")
    for name, digest in hashes.items():
        if len(members[name]) != sizes.get(name) or hashlib.sha256(members[name]).hexdigest() != digest:
            raise ModelError(f"{file}: {name} differs from the manifest; copy it again", code="package-altered")
        if is_pickle(name, members[name]):
            raise ModelError(
                f"{file}: {name} is a pickle, which runs code when it is loaded; not opened", code="package-unsafe"
            )


def manifest_of(file: Path, content: bytes) -> dict[str, Any]:
    """manifest.json of a package; `ModelError` (package-schema) for an unsupported format."""
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{file}: has no readable {MANIFEST}; it is not a model package", code="package-altered"
        ) from error
    package = manifest.get("package") if isinstance(manifest, dict) else None
    if not isinstance(package, dict):
        raise ModelError(f"{file}: its {MANIFEST} is not that of a model package", code="package-schema")
    if package.get("schema") != SCHEMA:
        raise ModelError(
            f"{file}: a package of schema {package.get('schema')!r}, this medseg reads schema {SCHEMA}",
            code="package-schema",
        )
    return dict(manifest)


def is_pickle(name: str, content: bytes) -> bool:
    """Whether a file starts like a pickle, or like torch's zip of one under another name."""
    zipped = content.startswith(b"PK") and not name.endswith(".skops")
    return zipped or (content[:1] == b"\x80" and content[1:2] in b"\x02\x03\x04\x05" and len(content) > 1)
