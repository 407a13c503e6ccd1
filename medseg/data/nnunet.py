"""Read datasets in the layouts of nnU-Net and the Medical Segmentation Decathlon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medseg.data.cases import Case, frame_of
from medseg.errors import DataError
from medseg.io.image import is_image, stem

ALL_CHANNELS = -1  # in place of a channel's number: one file for all channels


def read_nnunet(root: Path, channels: list[str]) -> list[Case]:
    """Cases of `imagesTr` with their masks. nnU-Net names channels CASE_0000, MSD has one file a case.

    Raises `DataError` for a channel without a file, and for several in one file, which `as_source` splits.
    """
    files, masks = _files_by_case(root)
    n_channels = max(len(channels), len(read_channel_names(root)))
    cases = []
    for case, by_channel in files.items():
        if ALL_CHANNELS in by_channel and n_channels > 1:
            raise DataError(
                f"{by_channel[ALL_CHANNELS]}: one file for {n_channels} channels; split them with "
                f"medseg data prepare nnunet {root} OUT and use OUT"
            )
        images = {}
        for position, channel in enumerate(channels):
            path = by_channel.get(position, by_channel.get(ALL_CHANNELS))
            if path is None:
                where = f"{root / 'imagesTr'}: {case} has no file {case}_{position:04d}.*"
                raise DataError(f"{where} for channel {channel!r}; add it")
            images[channel] = path
        cases.append(_case(case, images, masks))
    return cases


def _case(name: str, images: dict[str, Path], masks: dict[str, Path]) -> Case:
    sequence, frame = frame_of(name)
    return Case(sequence, sequence, images, masks.get(name), frame=frame)


def _files_by_case(root: Path) -> tuple[dict[str, dict[int, Path]], dict[str, Path]]:
    """The files of `imagesTr` by case and number of their channel, WHOLE without one; the masks by case."""
    folder = root / "imagesTr"
    if not folder.is_dir():
        raise DataError(f"{root}: dataset.json has no folder imagesTr next to it; add the images")
    masks = {stem(path): path for path in (root / "labelsTr").glob("*") if is_image(path)}
    files: dict[str, dict[int, Path]] = {}
    for path in sorted(p for p in folder.iterdir() if is_image(p)):
        name, _, number = stem(path).rpartition("_")
        numbered = bool(name) and len(number) == 4 and number.isdigit() and stem(path) not in masks
        case, position = (name, int(number)) if numbered else (stem(path), ALL_CHANNELS)
        files.setdefault(case, {})[position] = path
    return files, masks


def read_channel_names(root: Path) -> list[str]:
    """Names of the channels in dataset.json, in order: nnU-Net's "channel_names" or MSD's "modality"."""
    try:
        content = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
        names = content.get("channel_names") or content.get("modality") or {}
        return [str(names[key]) or key for key in sorted(names, key=int)]
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        problem = f'must state channels such as {{"channel_names": {{"0": "CT"}}}} ({type(error).__name__})'
        raise DataError(f"{root / 'dataset.json'}: {problem}") from error


def read_label_names(root: Path) -> dict[str, Any] | None:
    """Pixel values by label name from dataset.json, in nnU-Net's order (name: value) or MSD's (value: name)."""
    try:
        labels = json.loads((root / "dataset.json").read_text(encoding="utf-8")).get("labels")
        if labels is None:
            return None
        pairs = [(name, value) if not str(name).isdigit() else (value, int(name)) for name, value in labels.items()]
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f'{root / "dataset.json"}: must state labels such as {{"labels": {{"lesion": 1}}}}') from error
    return {str(name): value for name, value in pairs if value != 0}
