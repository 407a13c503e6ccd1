"""Nothing that a header says of a patient comes out anywhere: masks, tables, reports, messages, whatever is broken.

A word stands for name, ID and birth date in every place of every format that can hold it. Then the whole way is gone,
and every byte that was written or printed is looked through, unpacked where it is packed.
"""

from __future__ import annotations

import base64
import gzip
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from medseg.io.image import read_image
from tests.dicom_files import write_scan, write_slice

Command = Callable[..., Any]
WORD, BORN = "Zwetschgenmus", "18270605"
PLACES = {
    "PatientName": f"{WORD}^A", "PatientID": WORD, "PatientBirthDate": BORN, "OtherPatientNames": f"{WORD}^B",
    "PatientComments": WORD, "PatientAddress": WORD, "StudyDescription": WORD, "SeriesDescription": f"{WORD} 40%",
    "ProtocolName": WORD, "InstitutionName": WORD, "ReferringPhysicianName": f"{WORD}^C", "OperatorsName": f"{WORD}^D",
    "ImageComments": WORD, "AccessionNumber": WORD, "StudyID": WORD, "StationName": WORD,
    "StudyDate": BORN, "SeriesDate": BORN, "AcquisitionDate": BORN, "ContentDate": BORN,
}  # fmt: skip
# where a number or a UID is due
WRONG = ("PixelSpacing", "RescaleSlope", "ImagePositionPatient", "SeriesInstanceUID", "Modality", "PatientBirthDate")
ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be")


def unpacked(content: bytes) -> Iterator[bytes]:
    """Content, and what is packed inside: gzip, PNG chunks, base64 in pages."""
    yield content
    if content.startswith(b"\x1f\x8b"):
        yield gzip.decompress(content)
    if content.startswith(b"\x89PNG"):
        place = 8
        while place < len(content):
            (length,) = struct.unpack(">I", content[place : place + 4])
            kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
            place += 12 + length
            if kind in (b"zTXt", b"iTXt", b"iCCP"):
                for start in (index for index in range(len(data)) if data[index] == 0x78):
                    try:
                        yield zlib.decompress(data[start:])
                    except zlib.error:
                        continue
    for code in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content):
        yield from unpacked(base64.b64decode(code))


def tells(content: bytes) -> bool:
    """Whether the patient can be read anywhere in it."""
    words = [word.encode(encoding).lower() for word in (WORD, BORN) for encoding in ENCODINGS]
    return any(word in part.lower() for part in unpacked(content) for word in words)


def telling(folder: Path) -> list[str]:
    """The files below a folder that tell of the patient."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(folder)) for path in files if tells(path.read_bytes()))


def nifti(image: sitk.Image, path: Path) -> None:
    """With the word in every text field of the header, and in an extension."""
    sitk.WriteImage(image, str(path.with_name("plain.nii")))
    raw = bytearray(path.with_name("plain.nii").read_bytes())
    path.with_name("plain.nii").unlink()
    for start, length in {4: 10, 14: 18, 148: 80, 228: 24, 328: 16}.items():  # data_type, db_name, descrip, aux, intent
        raw[start : start + length] = WORD.encode()[:length].ljust(length, b"\0")
    text = f"{WORD} {BORN}".encode()
    extension = struct.pack("<ii", 64, 6) + text.ljust(56, b"\0")
    (offset,) = struct.unpack("<f", raw[108:112])
    raw[108:112] = struct.pack("<f", offset + len(extension))
    raw[348:352] = b"\1\0\0\0"
    whole = bytes(raw[:352]) + extension + bytes(raw[int(offset) :])
    path.write_bytes(gzip.compress(whole) if path.suffix == ".gz" else whole)


def named(image: sitk.Image) -> sitk.Image:
    """With header entries, as NRRD and MHA keep them."""
    copy = sitk.Image(image)
    for key in ("PatientName", "descrip", "0010|0010", WORD):
        copy.SetMetaData(key, f"{WORD} {BORN}")
    return copy


@pytest.fixture(scope="module")
def scans(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One volume in every format that can name a patient."""
    folder = tmp_path_factory.mktemp("scans")
    image = sitk.Cast(read_image(sorted((cohort / "images").glob("*.nii.gz"))[0]), sitk.sitkInt16)
    write_scan(image, folder / "ct", **PLACES)
    nifti(image, folder / "a.nii.gz")
    nifti(image, folder / "b.nii")
    for name in ("c.nrrd", "d.mha", "e.mhd"):
        sitk.WriteImage(named(image), str(folder / name), False)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture in every format that can name a patient."""
    folder = tmp_path_factory.mktemp("photos")
    y, x = np.mgrid[:96, :96]
    disc = np.hypot(y - 40, x - 48) < 20
    picture = Image.fromarray(np.where(disc[..., None], (120, 70, 50), (220, 180, 160)).astype(np.uint8))
    text = PngInfo()
    text.add_text("Patient", f"{WORD} {BORN}")
    text.add_text("Comment", f"{WORD} {BORN}", zip=True)
    text.add_itxt("Title", WORD, zip=True)
    exif = Image.Exif()
    exif[0x010E], exif[0x013B], exif[0x9C9B] = WORD, f"{WORD} {BORN}", WORD.encode("utf-16-le")
    picture.save(folder / "a.png", pnginfo=text, exif=exif)
    picture.save(folder / "b.jpg", exif=exif, comment=f"{WORD} {BORN}".encode(), quality=95)
    tags = ImageFileDirectory_v2()
    tags[270], tags[315], tags[65000] = WORD, f"{WORD} {BORN}", WORD
    picture.save(folder / "c.tif", tiffinfo=tags)
    return folder


def trained(folder: Path, *words: str) -> Path:
    """A segmenter without training."""
    from medseg.config.compose import compose
    from medseg.training.train import train

    places = [f"data.cache={folder / 'cache'}", f"run_dir={folder / 'run'}"]
    train(compose([*words, *places, "segmenter=otsu", "compute.accelerator=cpu", "compute.num_threads=1"]))
    return folder / "run"


@pytest.fixture(scope="module")
def lung_rule(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("lung"), "organ=lung", f"data.root={cohort}")


@pytest.fixture(scope="module")
def picture_rule(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("skin"), "organ=skin", "data.phantom_patients=4")


def break_all(folder: Path) -> None:
    """Each file cut off, and slices that hold the word where a number or a UID is due."""
    for path in [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("slice")]:
        path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    cut = folder / "ct/slice000.dcm"
    if not cut.exists():
        return
    good = pydicom.dcmread(cut)
    cut.write_bytes(cut.read_bytes()[:-100])
    for number, keyword in enumerate(WRONG):
        raw = folder / f"wrong{number}/slice000.dcm"
        raw.parent.mkdir()
        good.save_as(raw)
        element = pydicom.dcmread(raw, specific_tags=[keyword])[keyword]
        content = raw.read_bytes()
        start = content.index(struct.pack("<HH", element.tag.group, element.tag.element) + element.VR.encode()) + 8
        (length,) = struct.unpack("<H", content[start - 2 : start])
        word = f"{WORD}".encode()[:length].ljust(length)
        raw.write_bytes(content[:start] + word + content[start + length :])
    odd = ({"Modality": "MR", "EchoTime": "1"}, {"PixelSpacing": None}, {"RescaleSlope": "0"})
    for number, changes in enumerate(odd):
        for height in (0.0, 1.0, 1.0):
            place = folder / f"odd{number}/slice{height}{len(list(folder.glob('odd*/*')))}.dcm"
            write_slice(place, 1, (0, 0, height), **(PLACES | changes))


def run(medseg: Command, *words: object) -> None:
    """A command whose messages tell of nobody, and that meets no bug."""
    result = medseg(*words)
    assert not tells(result.out.encode()), result.out
    assert not tells(result.err.encode()), result.err
    assert "Traceback" not in result.err, result.err[-4000:]


def test_the_search_finds_what_is_there(scans: Path, photos: Path) -> None:
    """Every input tells of its patient, so that a search that finds nothing later means something."""
    files = [path for path in scans.rglob("*") if path.is_file() and path.suffix != ".raw"]
    assert telling(scans) == sorted(str(path.relative_to(scans)) for path in files)
    assert telling(photos) == ["a.png", "b.jpg", "c.tif"]
    assert all(len([1 for part in unpacked(path.read_bytes())]) > 1 for path in (photos / "a.png", scans / "a.nii.gz"))


@pytest.mark.parametrize("broken", [False, True], ids=["whole", "broken"])
def test_volumes_from_images_to_report(
    medseg: Command,
    scans: Path,
    lung_rule: Path,
    classifier_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: bool,
) -> None:
    images = tmp_path / "images"
    shutil.copytree(scans, images)
    if broken:
        break_all(images)
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)  # `data check` writes where one stands
    run(medseg, "data", "check", images, "organ=lung")
    for word in ("nifti", "nrrd", "mha", "dicom-seg"):
        run(medseg, "segment", images, out / word, "--model", lung_rule, "--output-format", word)
    features, diagnoses = out / "features.csv", out / "diagnoses.csv"
    run(medseg, "extract-features", images, out / "nifti", features)
    run(medseg, "diagnose", images, diagnoses, "--model", classifier_run, "--masks", out / "nifti", "--format", "json")
    run(medseg, "evaluate", out / "nifti", out / "mha", "--out", out / "evaluation")
    if not broken:
        run(medseg, "report", out / "diagnoses.json")
        run(medseg, "report", out / "evaluation")
        made = {"nifti/ct.nii.gz", "dicom-seg/ct.seg.dcm", "features.csv", "diagnoses.csv", "diagnoses.html"}
        assert made <= {str(path.relative_to(out)) for path in out.rglob("*")}
    assert (out / "nifti/cases.csv").is_file()
    assert (out / "data_check.csv").is_file()
    assert telling(out) == []


@pytest.mark.parametrize("broken", [False, True], ids=["whole", "broken"])
def test_pictures_from_images_to_measures(
    medseg: Command, photos: Path, picture_rule: Path, tmp_path: Path, broken: bool
) -> None:
    images = tmp_path / "images"
    shutil.copytree(photos, images)
    if broken:
        break_all(images)
    out = tmp_path / "out"
    for word in ("png", "tiff", ".bmp"):
        run(medseg, "segment", images, out / word.strip("."), "--model", picture_rule, "--output-format", word)
    run(medseg, "extract-features", images, out / "png", out / "features.csv", "--features", "dermoscopy")
    if not broken:
        made = {"png/a.png", "tiff/b.tif", "bmp/c.bmp", "features.csv"}
        assert made <= {str(path.relative_to(out)) for path in out.rglob("*")}
    assert telling(out) == []


def test_a_model_that_learnt_from_named_images_names_nobody(
    medseg: Command, scans: Path, cohort: Path, tmp_path: Path
) -> None:
    """Settings, card, fingerprint, table of the split and report of a run."""
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "masks").mkdir()
    mask = sorted((cohort / "masks").glob("*.nii.gz"))[0]
    for number, source in enumerate(["ct", "a.nii.gz", "c.nrrd", "d.mha"]):
        (data / f"images/p{number}{''.join(Path(source).suffixes)}").symlink_to(scans / source)
        shutil.copy(mask, data / f"masks/p{number}.nii.gz")
    folder = tmp_path / "run"
    settings = ["segmenter=otsu", f"data.root={data}", f"data.cache={tmp_path / 'cache'}", f"run_dir={folder}"]
    run(medseg, "train", "organ=lung", *settings, "compute=cpu", "compute.num_threads=1")
    run(medseg, "report", folder, "--out", tmp_path / "report.html")
    assert (folder / "card.md").is_file()
    assert (tmp_path / "report.html").is_file()
    assert telling(folder) == telling(tmp_path / "cache") == []
    assert not tells((tmp_path / "report.html").read_bytes())
