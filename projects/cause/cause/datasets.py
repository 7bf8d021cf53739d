"""Cityscapes and COCO-Stuff in their published layouts, as square crops, with 27 classes."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from refineclip.datasets.image_folder import list_images, read_image_list
from refineclip.datasets.image_io import image_to_tensor, read_image

from .classes27 import CITYSCAPES_27, COCO_STUFF_27, cityscapes_lookup, coco_stuff_lookup

CROPS = {'center': 1, 'five': 5}


def five_crop_box(width: int, height: int, index: int, ratio: float) -> tuple[int, int, int, int]:
    """Box of one of five crops: four corners, then the centre.

    Args:
        width: Of the image, pixels.
        height: Of the image, pixels.
        index: 0 top left, 1 top right, 2 bottom left, 3 bottom right, 4 centre.
        ratio: Sides of the crop as a share of the image's.

    Returns:
        xyxy in pixels of the image.
    """
    crop_width, crop_height = max(1, round(width * ratio)), max(1, round(height * ratio))
    x, y = width - crop_width, height - crop_height
    left, top = [(0, 0), (x, 0), (0, y), (x, y), (x // 2, y // 2)][index]
    return left, top, left + crop_width, top + crop_height


def resize_and_crop(image: Image.Image, size: int, resample: Image.Resampling) -> Image.Image:
    """Scale the shorter side to ``size`` pixels and cut the central square."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), resample).crop((left, top, left + size, top + size))


class Segmentation27(Dataset[dict[str, Any]]):
    """Square crops of images, with class maps where asked.

    An item is a dict of ``inputs`` (3, S, S) uint8 RGB, ``img_path`` str, ``crop_box`` (4,) xyxy in
    [0, 1] of the image, and, if ``with_labels``, ``labels`` (S, S) int64 in [0, 26] or 255.

    Args:
        data_root: Root of the data set.
        split: Name of the split.
        image_size: S in pixels, a multiple of the encoder's patch.
        crop: ``'center'``: the shorter side scaled to S, the central square. ``'five'``: the four
            corners and the centre first, each treated like an image of its own, so that the data
            set is five times as long (CAUSE trains on such crops; for training only).
        crop_ratio: Sides of the five crops as shares of the image's. Not stated in what we could
            read; ours.
        with_labels: Read label maps; training needs none.
        ann_file: Use only the images listed here, one name per line relative to the split's image
            folder, or a COCO style json. Published COCO-Stuff-27 numbers are on a curated list.
        limit: Use the first ``limit`` images only.

    Raises:
        FileNotFoundError: If a folder, an image or a label map is missing.
        ValueError: On an unknown crop, a bad ratio, or if five crops are asked for with labels.
        BadImageError: While reading, on a file that cannot be used; none is skipped.
    """

    classes: ClassVar[tuple[str, ...]]
    lookup: ClassVar[NDArray[np.uint8]]

    def __init__(
        self,
        data_root: str,
        split: str,
        image_size: int,
        crop: str = 'center',
        crop_ratio: float = 0.5,
        with_labels: bool = False,
        ann_file: str | None = None,
        limit: int | None = None,
    ) -> None:
        if crop not in CROPS:
            raise ValueError(f'crop: expected one of {tuple(CROPS)}, got {crop!r}')
        if not 0 < crop_ratio <= 1:
            raise ValueError(f'crop_ratio: expected a share in (0, 1], got {crop_ratio}')
        if with_labels and crop != 'center':
            raise ValueError(
                "crop: expected 'center' with labels, got 'five', which is to train on"
            )
        self.root, self.split = Path(data_root), split
        self.image_size, self.crop, self.crop_ratio = image_size, crop, crop_ratio
        self.with_labels = with_labels
        folder = self.image_folder()
        if not folder.is_dir():
            raise FileNotFoundError(f'expected split {split!r} in {folder}, got no such folder')
        names = list_images(folder) if ann_file is None else read_image_list(ann_file)
        self.names = names[:limit]
        self.paths = [folder / name for name in self.names]
        self._check_files()

    def _check_files(self) -> None:
        needed = [*self.paths, *(map(self.label_path, self.names) if self.with_labels else ())]
        missing = [path for path in needed if not path.is_file()]
        if missing or not needed:
            raise FileNotFoundError(
                f'expected {len(needed)} files of split {self.split!r} under {self.root}, got '
                f'{len(missing)} missing (first: {[str(path) for path in missing[:1]]})'
            )

    @property
    def metainfo(self) -> dict[str, Any]:
        """Facts about the data set, for mmengine's runner."""
        return {'classes': self.classes}

    @abstractmethod
    def image_folder(self) -> Path:
        """Folder of the split's images."""

    @abstractmethod
    def label_path(self, name: str) -> Path:
        """Label map of an image named relative to :meth:`image_folder`."""

    def __len__(self) -> int:
        return len(self.paths) * CROPS[self.crop]

    def __getitem__(self, index: int) -> dict[str, Any]:
        image_index, crop_index = divmod(index, CROPS[self.crop])
        path = self.paths[image_index]
        image = read_image(path)
        box = (0, 0, *image.size)
        if self.crop == 'five':
            box = five_crop_box(*image.size, crop_index, self.crop_ratio)
        crop_box = torch.tensor(box) / torch.tensor(image.size * 2)
        image = resize_and_crop(image.crop(box), self.image_size, Image.Resampling.BICUBIC)
        item: dict[str, Any] = {
            'inputs': image_to_tensor(image),
            'img_path': str(path),
            'crop_box': crop_box,
        }
        if self.with_labels:
            item['labels'] = self._read_labels(self.label_path(self.names[image_index]))
        return item

    def _read_labels(self, path: Path) -> torch.Tensor:
        with Image.open(path) as file:
            if file.mode not in ('L', 'P'):
                raise ValueError(f'expected 8-bit class ids, got mode {file.mode!r} in {path}')
            # Palette images hold ids too; converting them would turn ids into colours.
            ids = Image.fromarray(np.asarray(file))
        ids = resize_and_crop(ids, self.image_size, Image.Resampling.NEAREST)
        return torch.from_numpy(self.lookup[np.asarray(ids)].astype(np.int64))


@DATASETS.register_module()
class CocoStuff27(Segmentation27):
    """COCO-Stuff: ``<split>/*.jpg`` and ``stuffthingmaps/<split>/*.png`` (``train2017`` ...).

    The maps are those of ``stuffthingmaps_trainval2017.zip`` as published, not renumbered. See
    :mod:`.classes27` for the 27 classes and :class:`Segmentation27` for the arguments.
    """

    classes = COCO_STUFF_27
    lookup = coco_stuff_lookup()

    def image_folder(self) -> Path:
        """``<data_root>/<split>``."""
        return self.root / self.split

    def label_path(self, name: str) -> Path:
        """``<data_root>/stuffthingmaps/<split>/<stem>.png``."""
        return (self.root / 'stuffthingmaps' / self.split / name).with_suffix('.png')


@DATASETS.register_module()
class Cityscapes27(Segmentation27):
    """Cityscapes: ``leftImg8bit/<split>/<city>/*_leftImg8bit.png`` and ``gtFine/...labelIds.png``.

    See :mod:`.classes27` for the 27 classes and :class:`Segmentation27` for the arguments.
    """

    classes = CITYSCAPES_27
    lookup = cityscapes_lookup()

    def image_folder(self) -> Path:
        """``<data_root>/leftImg8bit/<split>``."""
        return self.root / 'leftImg8bit' / self.split

    def label_path(self, name: str) -> Path:
        """``<data_root>/gtFine/<split>/<city>/*_gtFine_labelIds.png``."""
        stem = name.removesuffix('_leftImg8bit.png')
        return self.root / 'gtFine' / self.split / f'{stem}_gtFine_labelIds.png'
