from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import DataError, ImageError
from medseg.io.geometry import grid_difference
from medseg.io.image import (
    SUFFIXES,
    find_images,
    frames,
    is_image,
    join_frames,
    read_image,
    read_mask,
    stem,
    to_array,
    write_image,
)
from tests.conftest import posix

VOLUMES = [".nii.gz", ".nii", ".mha", ".mhd", ".nrrd"]
# a rotation about all three axes, so that a swapped or flipped axis cannot pass
OBLIQUE = np.linalg.qr(np.array([[0.9, 0.3, -0.2], [-0.2, 0.95, 0.3], [0.3, -0.1, 0.9]]))[0]


def volume(dtype: str = "int16", dimension: int = 3) -> sitk.Image:
    shape = (2, 3, 4, 5)[4 - dimension :]
    array = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    if dimension == 4:
        return sitk.JoinSeries([volume(dtype) + step for step in range(2)], 0.5, 0.25)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([0.7, 0.8, 2.5][:dimension])
    image.SetOrigin([-12.5, 30.25, 7.0][:dimension])
    if dimension == 3:
        image.SetDirection(OBLIQUE.ravel())
    return image


def pixels(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def code_of(call, *arguments) -> str:
    with pytest.raises(ImageError) as caught:
        call(*arguments)
    return caught.value.code


@pytest.mark.parametrize("suffix", VOLUMES)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_volume_keeps_pixels_and_oblique_geometry(tmp_path: Path, suffix: str, dtype: str) -> None:
    image = volume(dtype)
    write_image(image, tmp_path / f"new/folder/a{suffix}")
    back = read_image(tmp_path / f"new/folder/a{suffix}")
    assert grid_difference(image, back) is None
    assert back.GetPixelID() == image.GetPixelID()
    np.testing.assert_array_equal(pixels(back), pixels(image))


@pytest.mark.parametrize("suffix", VOLUMES)
def test_write_then_read_4d_keeps_all(tmp_path: Path, suffix: str) -> None:
    image = volume(dimension=4)
    write_image(image, tmp_path / f"a{suffix}")
    back = read_image(tmp_path / f"a{suffix}")
    assert back.GetSize() == (5, 4, 3, 2)
    assert grid_difference(image, back) is None
    np.testing.assert_array_equal(pixels(back), pixels(image))


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s not in VOLUMES])
@pytest.mark.parametrize("colour", [False, True])
def test_photo_grey_is_scalar_and_colour_a_vector(tmp_path: Path, suffix: str, colour: bool) -> None:
    array = np.full((6, 8, 3) if colour else (6, 8), 90, np.uint8)
    if colour:
        array[..., 1] = 200
    image = sitk.GetImageFromArray(array, isVector=colour)
    image.SetSpacing((0.4, 0.6))  # a photograph has no physical spacing: it is read as 1
    write_image(image, tmp_path / f"a{suffix}")
    back = read_image(tmp_path / f"a{suffix}")
    assert back.GetDimension() == 2
    assert back.GetNumberOfComponentsPerPixel() == (3 if colour else 1)
    assert back.GetSpacing() == (1.0, 1.0)
    np.testing.assert_allclose(pixels(back), array, atol=3 if suffix in (".jpg", ".jpeg") else 0)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
def test_16_bit_photo(tmp_path: Path, suffix: str) -> None:
    array = np.array([[0, 300], [65535, 7]], np.uint16)
    write_image(sitk.GetImageFromArray(array), tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(pixels(read_image(tmp_path / f"a{suffix}")), array)


def test_read_image_ignores_printing_resolution_of_jpeg(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image(4, 4, sitk.sitkUInt8), str(tmp_path / "a.jpg"))
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    density = data.index(b"JFIF\0") + 7
    data[density : density + 5] = b"\x01\x00\x48\x00\x48"  # 72 dots an inch
    (tmp_path / "a.jpg").write_bytes(data)
    assert sitk.ReadImage(str(tmp_path / "a.jpg")).GetSpacing() != (1.0, 1.0)
    write_image(sitk.Image(4, 4, sitk.sitkUInt8), tmp_path / "a.png")
    assert grid_difference(read_image(tmp_path / "a.jpg"), read_mask(tmp_path / "a.png")) is None


def test_multi_page_tiff_is_a_volume(tmp_path: Path) -> None:
    write_image(volume("uint8"), tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "a.tif")), pixels(volume("uint8")))


def test_write_image_casts_integers_without_loss(tmp_path: Path) -> None:
    write_image(sitk.GetImageFromArray(np.array([[0, 1], [2, 255]], np.int64)), tmp_path / "mask.png")
    assert read_image(tmp_path / "mask.png").GetPixelID() == sitk.sitkUInt8
    write_image(sitk.GetImageFromArray(np.array([[0, 256]], np.int32)), tmp_path / "wide.png")
    assert read_image(tmp_path / "wide.png").GetPixelID() == sitk.sitkUInt16


@pytest.mark.parametrize(
    ("image", "name", "code"),
    [
        (volume("uint8"), "a.png", "image-dimension"),
        (volume(dimension=4), "a.tif", "image-dimension"),
        (volume("float32", 2), "a.png", "image-pixels"),
        (volume("int16", 2) - 5, "a.png", "image-pixels"),
        (volume("uint16", 2) + 300, "a.jpg", "image-pixels"),
        (volume(), "a.xyz", "image-suffix"),
    ],
)
def test_write_image_unsupported_by_format_raises(tmp_path: Path, image: sitk.Image, name: str, code: str) -> None:
    assert code_of(write_image, image, tmp_path / name) == code
    assert list(tmp_path.iterdir()) == []


def test_write_image_failed_keeps_old_file_and_leaves_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(volume(), tmp_path / "a.nii.gz")
    before = (tmp_path / "a.nii.gz").read_bytes()

    def full_disk(image: sitk.Image, name: str, **options: object) -> None:
        Path(name).write_bytes(before[:50])

    monkeypatch.setattr(sitk, "WriteImage", full_disk)
    assert code_of(write_image, volume(), tmp_path / "a.nii.gz") == "image-write"
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]
    assert (tmp_path / "a.nii.gz").read_bytes() == before


def test_write_image_mhd_is_two_files(tmp_path: Path) -> None:
    for value in (volume(), volume() + 1):
        write_image(value, tmp_path / "a.mhd")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mhd", "a.raw"]
    assert "ElementDataFile = a.raw" in (tmp_path / "a.mhd").read_text()
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "a.mhd")), pixels(volume() + 1))


@posix
def test_written_file_follows_the_umask(tmp_path: Path) -> None:
    write_image(volume(), tmp_path / "a.nii")
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.nii").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_read_image_drops_header_entries(tmp_path: Path) -> None:
    image = volume()
    image.SetMetaData("PatientName", "Doe")
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    assert "PatientName" in sitk.ReadImage(str(tmp_path / "a.nrrd")).GetMetaDataKeys()
    assert not read_image(tmp_path / "a.nrrd").GetMetaDataKeys()


def test_read_image_drops_header_entry_that_is_not_utf8(tmp_path: Path) -> None:
    image = volume()
    image.SetMetaData("Klinik", "x")
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    (tmp_path / "a.mha").write_bytes((tmp_path / "a.mha").read_bytes().replace(b"Klinik", b"Klin\xefk"))
    assert not read_image(tmp_path / "a.mha").GetMetaDataKeys()


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    assert code_of(read_image, tmp_path / "a.nii.gz") == "image-missing"
    assert code_of(read_image, tmp_path / "a.xyz") == "image-suffix"
    assert code_of(read_image, tmp_path / "folder") == "dicom-none"


@pytest.mark.parametrize("suffix", [*VOLUMES, ".tif"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinity_are_counted(tmp_path: Path, suffix: str, dtype: type) -> None:
    """ITK's NIfTI reader silently turns both into 0."""
    if suffix == ".tif" and dtype is np.float64:
        pytest.skip("ITK writes no such TIFF")
    array = np.zeros((2, 3, 4), dtype)
    array[0, 0, :2] = np.nan
    array[1, 2, 3] = -np.inf
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"a{suffix}"))
    with pytest.raises(ImageError, match="2 of 24 values are NaN and 1 are infinite; replace them by finite") as caught:
        read_image(tmp_path / f"a{suffix}")
    assert caught.value.code == "image-nan"


def test_read_image_shortens_itk_errors(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_image(volume(), tmp_path / "a.nrrd")
    data = (tmp_path / "a.nrrd").read_bytes().replace(b"encoding: gzip", b"encoding: bzip2")  # ITK has no such library
    (tmp_path / "a.nrrd").write_bytes(data)
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "a.nrrd")
    assert caught.value.code == "image-unreadable"
    assert str(caught.value).startswith(f"{tmp_path / 'a.nrrd'}: cannot be read: ")
    for noise in ("0x", "cxx", "Exception thrown", "\n", "ITK ERROR"):
        assert noise not in str(caught.value)


def test_mask_values(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, 255]])
    sitk.WriteImage(sitk.GetImageFromArray(labels.astype(np.float32)), str(tmp_path / "good.nii.gz"))
    mask = read_mask(tmp_path / "good.nii.gz")
    assert mask.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(pixels(mask), labels)
    for name, value, text in (("half", 0.5, "0.5"), ("negative", -1, "-1"), ("large", 300, "300")):
        sitk.WriteImage(sitk.GetImageFromArray(labels + value), str(tmp_path / f"{name}.nii.gz"))
        with pytest.raises(ImageError, match=f"this one has .*{text}") as caught:
            read_mask(tmp_path / f"{name}.nii.gz")
        assert caught.value.code == "mask-values"


def test_mask_stored_as_colour(tmp_path: Path) -> None:
    grey = np.repeat(np.array([[0, 1], [2, 3]], np.uint8)[..., None], 4, axis=2)
    grey[..., 3] = 255  # alpha
    write_image(sitk.GetImageFromArray(grey, isVector=True), tmp_path / "grey.png")
    np.testing.assert_array_equal(pixels(read_mask(tmp_path / "grey.png")), grey[..., 0])
    grey[..., 1] = 9
    write_image(sitk.GetImageFromArray(grey, isVector=True), tmp_path / "colour.png")
    assert code_of(read_mask, tmp_path / "colour.png") == "mask-colour"


def test_names() -> None:
    assert stem(Path("a/b.c.nii.gz")) == "b.c"
    assert stem(Path("a/B.PNG")) == "B"
    assert stem(Path("a/patient.1")) == "patient.1"
    assert is_image(Path("x/a.NII.GZ"))
    assert not is_image(Path("x/.a.png"))
    assert not is_image(Path("x/a.gz"))


def test_find_images(tmp_path: Path) -> None:
    for name in ("b.png", "a.nii.gz", "in/c.JPG", "in/deep/d.tif", ".e.png", ".hidden/f.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in/loop").symlink_to(tmp_path, target_is_directory=True)

    def names(pattern: str | None = None) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path, pattern)]

    assert names() == ["a.nii.gz", "b.png", "in/c.JPG", "in/deep/d.tif"]
    assert names("*.png") == ["b.png"]
    assert names("in/*") == names("in/**/*") == ["in/c.JPG", "in/deep/d.tif"]
    assert names("**/b.png") == ["b.png"]
    assert find_images(tmp_path / "b.png") == [tmp_path / "b.png"]
    with pytest.raises(DataError):
        find_images(tmp_path / "nowhere")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_read_image_without_permission_is_unreadable(tmp_path: Path) -> None:
    write_image(volume(), tmp_path / "a.nii")
    (tmp_path / "a.nii").chmod(0)
    assert code_of(read_image, tmp_path / "a.nii") == "image-unreadable"


def test_frames_then_join_frames_returns_the_image() -> None:
    image = volume(dimension=4)
    volumes = frames(image)
    assert [frame.GetSize() for frame in volumes] == [(5, 4, 3)] * 2
    assert all(grid_difference(frame, volume()) is None for frame in volumes)
    joined = join_frames(volumes, like=image)
    assert grid_difference(joined, image) is None
    np.testing.assert_array_equal(pixels(joined), pixels(image))
    assert join_frames(volumes).GetSize() == image.GetSize()


def test_frames_along_a_time_axis_of_a_sagittal_cine() -> None:
    film = volume()
    film.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))  # its first two axes span y and z, whose 2×2 block is singular
    volumes = frames(film, time_axis=2)
    assert [frame.GetSize() for frame in volumes] == [(5, 4)] * 3
    np.testing.assert_array_equal(pixels(volumes[1]), pixels(film)[1])
    assert grid_difference(join_frames(volumes, like=film), film) is None
    assert frames(film) == [film]
    assert code_of(frames, film, 3) == "image-dimension"


def test_join_frames_on_different_grids_raises() -> None:
    moved = volume()
    moved.SetOrigin((0, 0, 0))
    with pytest.raises(ImageError, match=r"frame 1 .* origins differ"):
        join_frames([volume(), moved])


def test_grid_difference_names_the_difference() -> None:
    assert grid_difference(volume(), volume("uint8")) is None
    assert grid_difference(volume(), volume(dimension=2)) == "the sizes differ: (5, 4, 3) and (5, 4) voxels"
    for name, change in (("Spacing", 0.01), ("Origin", 0.1), ("Direction", 0.01)):
        for factor, expected in ((1, f"the {name.lower()}s differ: ("), (1e-3, None)):
            other = volume()
            values = np.array(getattr(other, f"Get{name}")())
            getattr(other, f"Set{name}")((values + change * factor).tolist())
            difference = grid_difference(volume(), other)
            assert difference == expected or str(difference).startswith(str(expected))


def test_grid_difference_accumulates_over_the_row() -> None:
    """0.01 % of a voxel is nothing in a row of five and 0.05 voxels in a row of 512."""
    for width, expected in ((5, "None"), (512, "lie up to 0.051")):
        a = sitk.Image([width, 4, 3], sitk.sitkUInt8)
        b = sitk.Image(a)
        b.SetSpacing((1.0001, 1, 1))
        assert expected in str(grid_difference(a, b))


def test_grid_difference_of_slice_thickness() -> None:
    a = sitk.Image([5, 4, 1], sitk.sitkUInt8)
    b = sitk.Image(a)
    b.SetSpacing((1, 1, 5))
    assert "the spacings differ: (1, 1, 1) and (1, 1, 5)" in str(grid_difference(a, b))


@pytest.mark.parametrize("suffix", VOLUMES)
def test_grid_difference_tolerates_rounding_of_formats(tmp_path: Path, suffix: str) -> None:
    image = sitk.Image([1000, 900, 2], sitk.sitkUInt8)
    image.SetSpacing((0.48828125, 0.4882813, 1 / 3))
    image.SetOrigin((-1234.5678901, 987.6543219, 3210.123456))
    image.SetDirection(OBLIQUE.ravel())
    write_image(image, tmp_path / f"a{suffix}")
    assert grid_difference(read_image(tmp_path / f"a{suffix}"), image) is None


def test_to_array_shapes() -> None:
    assert to_array(volume()).shape == (1, 3, 4, 5)
    assert to_array(volume(dimension=2)).shape == (1, 1, 4, 5)
    colour = to_array(sitk.GetImageFromArray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3), isVector=True))
    assert colour.shape == (3, 1, 2, 4)
    assert colour.dtype == np.float32
    np.testing.assert_array_equal(colour[:, 0, 0, 1], [3, 4, 5])
    assert colour.flags.c_contiguous
    assert colour.flags.writeable
    assert code_of(to_array, volume(dimension=4)) == "image-dimension"


@pytest.mark.parametrize("name", ["a.nii.nii.gz", "a.png.png", "a.mha.nii", "a.nii.mhd", "a.nii.gz.nrrd"])
def test_write_image_name_with_two_endings(tmp_path: Path, name: str) -> None:
    image = sitk.Image([5, 4], sitk.sitkUInt8) + 7
    write_image(image, tmp_path / name)
    np.testing.assert_array_equal(pixels(read_image(tmp_path / name)), pixels(image))


@posix
def test_read_image_unprintable_name_raises_with_escapes(tmp_path: Path) -> None:
    for name, escaped in ((b"a\nb.nii", r"a\nb.nii"), (b"a\xe9.nii", r"a\udce9.nii")):
        path = tmp_path / os.fsdecode(name)
        path.touch()
        with pytest.raises(ImageError) as caught:
            read_image(path)
        assert caught.value.code == "image-name"
        assert str(caught.value).startswith(f"{tmp_path}/{escaped}: ")


@posix
def test_read_image_pipe_or_device_raises_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    (tmp_path / "c.png").symlink_to("c.png")
    assert [code_of(read_image, tmp_path / name) for name in ("a.png", "b.png", "c.png")] == [
        "image-unreadable",
        "image-unreadable",
        "image-missing",
    ]


def test_find_images_lists_closed_and_image_named_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nii.gz").mkdir()
    (tmp_path / "closed").mkdir()
    plain = os.scandir

    def scan(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert find_images(tmp_path) == [tmp_path / "a.nii.gz", tmp_path / "closed"]
    assert code_of(read_image, tmp_path / "a.nii.gz") == "dicom-none"


def test_read_image_five_axes_raise(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image([3, 3, 3, 2, 2], sitk.sitkUInt8), str(tmp_path / "a.nii"))
    assert code_of(read_image, tmp_path / "a.nii") == "image-dimension"
