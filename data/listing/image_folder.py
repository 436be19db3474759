"""Folders of images, one per frame: their order, and their values as 8 bits."""

import functools
import os
import pathlib
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps

from data.listing.system_files import is_system

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

_FULL_16 = 2**16 - 1
_DARK_16 = 2**12  # 16-bit images that stay below it were perhaps meant as 12 bits
_NUMBERS = ("F", "I")  # Pillow's modes of 32-bit floats and integers


class ImageFolder:
    """The images of a folder as frames.

    Attributes:
      files: the images, in order.
    """

    def __init__(self, folder: pathlib.Path):
        self.files = image_files(folder)
        self._peak_16 = None
        self._pages = 0

    def __iter__(self) -> Iterator[Image.Image]:
        return map(self.image, self.files)

    def image(self, path: pathlib.Path) -> Image.Image:
        """One of the files, RGB, upright."""
        with Image.open(path) as image:
            self._pages += getattr(image, "n_frames", 1) > 1
            return self._in_8_bits(ImageOps.exif_transpose(image)).convert("RGB")

    def remarks(self) -> list[str]:
        """What a person should know about the images read so far."""
        remarks = []
        stems = {path.stem for path in self.files}
        if len(stems) < len(self.files):
            remarks.append(
                "images whose names differ from others in the suffix only, all taken as frames: "
                f"{len(self.files) - len(stems)}"
            )
        if self._pages:
            remarks.append(f"images of several pages, the first of which is taken: {self._pages}")
        if self._peak_16 is not None and self._peak_16 < _DARK_16:
            remarks.append(
                f"the largest value in its 16-bit images is {self._peak_16} of {_FULL_16}, so its "
                "frames are stored dark"
            )
        if "_range" in self.__dict__:
            low, high = self._range
            remarks.append(f"values {low:.4g} ... {high:.4g} of its images are stored as 0 ... 255")
        return remarks

    def _in_8_bits(self, image: Image.Image) -> Image.Image:
        """Scales images of more than 8 bits, which Pillow would clip; others stay as they are."""
        if image.mode.startswith("I;16"):
            values_HW = np.asarray(image).astype(np.int64)
            self._peak_16 = max(self._peak_16 or 0, int(values_HW.max()))
            return _grey(values_HW, 0, _FULL_16)
        if image.mode in _NUMBERS:
            return _grey(np.asarray(image).astype(float), *self._range)
        return image

    @functools.cached_property
    def _range(self) -> tuple[float, float]:
        """Values of black and white: one range for all images, or they would flicker."""
        low, high, whole = np.inf, -np.inf, True
        for path in self.files:
            with Image.open(path) as image:
                if image.mode in _NUMBERS:
                    values = np.asarray(image).astype(float)
                    values = values[np.isfinite(values)]
                    whole = whole and image.mode == "I"
                    low = min(low, values.min(initial=np.inf))
                    high = max(high, values.max(initial=-np.inf))
        usual = (255, _FULL_16) if whole else (1, 255, _FULL_16)
        for white in usual:
            if low >= 0 and high <= white:
                return 0.0, float(white)
        return float(low), float(high)


def image_entries(folder: pathlib.Path) -> list[os.DirEntry]:
    """The images of a folder in no order."""
    with os.scandir(folder) as entries:
        return [
            entry
            for entry in entries
            if pathlib.Path(entry.name).suffix.lower() in SUFFIXES
            and not is_system(entry.name)
            and not entry.is_dir()
        ]


def image_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The images of a folder in order: numbers in names count as numbers, suffixes do not."""
    return sorted((folder / entry.name for entry in image_entries(folder)), key=_natural)


def _natural(path: pathlib.Path) -> tuple[list[str | int], str]:
    pieces = re.split(r"(\d+)", path.stem)
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], path.name


def _grey(values_HW: np.ndarray, black: float, white: float) -> Image.Image:
    values_HW = np.nan_to_num(values_HW, nan=black, posinf=white, neginf=black)
    share_HW = (values_HW - black) / max(white - black, np.finfo(float).tiny)
    return Image.fromarray(np.clip(np.rint(share_HW * 255), 0, 255).astype(np.uint8))
