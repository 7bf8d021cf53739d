"""Images with captions in COCO's published json."""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray

from refineclip.datasets.coco_json import check_records, file_name_of, read_coco_json

_NUM_NAMED = 5


class CocoCaptions:
    """Image files, captions and which belongs to which, of ``captions_*.json``.

    Images without a caption are left out, with a warning that counts them.

    Args:
        ann_file: Json with ``images`` (``id``, ``file_name``) and ``annotations`` (``image_id``,
            ``caption``), as ``captions_val2017.json``.
        image_root: Folder that the file names are relative to.
        captions_per_image: Take the first so many captions of an image in the file's order; None
            takes all. Published recalls on COCO use 5.

    Attributes:
        paths: N image files, in the order of the json.
        captions: M sentences.
        owner: (M,) index of the image of each; images come in order.

    Raises:
        FileNotFoundError: If the json, the folder or image files do not exist.
        ValueError: If the json is of another kind, a caption is blank or belongs to an image that
            the json does not list, or fewer than two images have captions.
    """

    def __init__(
        self,
        ann_file: str | Path,
        image_root: str | Path,
        captions_per_image: int | None = None,
    ) -> None:
        if captions_per_image is not None and captions_per_image < 1:
            raise ValueError(f'captions_per_image: expected 1 or more, got {captions_per_image}')
        self.ann_file, self.image_root = Path(ann_file), Path(image_root)
        if not self.image_root.is_dir():
            raise FileNotFoundError(f'expected a folder of images, got {image_root}, no folder')
        images, annotations = _read(self.ann_file)
        texts = _captions_by_image(self.ann_file, images, annotations)
        chosen = [image for image in images if image in texts]
        if len(chosen) < 2:
            raise ValueError(
                f'{ann_file}: expected captions of two or more images, got {len(chosen)}'
            )
        if len(chosen) < len(images):
            print_log(
                f'{ann_file}: {len(images) - len(chosen)} of {len(images)} images have no caption '
                'and are left out',
                logger='current',
                level=logging.WARNING,
            )
        self.paths = [self.image_root / images[image] for image in chosen]
        self._refuse_missing()
        kept = [texts[image][:captions_per_image] for image in chosen]
        self.captions = [caption for group in kept for caption in group]
        counts = [len(group) for group in kept]
        self.owner: NDArray[np.int64] = np.repeat(np.arange(len(kept), dtype=np.int64), counts)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def select(self, kept: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Captions of some images, as when others could not be read.

        Args:
            kept: (N',) indices of images, increasing.

        Returns:
            (M',) indices of their captions, and the position in ``kept`` of the image of each.
        """
        position = np.full(len(self.paths), -1)
        position[kept] = np.arange(len(kept))
        rows = np.flatnonzero(position[self.owner] >= 0)
        return rows, position[self.owner[rows]]

    def _refuse_missing(self) -> None:
        missing = [path for path in self.paths if not path.is_file()]
        if missing:
            raise FileNotFoundError(
                f'expected the {len(self.paths)} captioned images of {self.ann_file} below '
                f'{self.image_root}, got {len(missing)} that do not exist (first: {missing[0]}); '
                'give the folder that file_name is relative to, or a json of the images you have: '
                'recall among fewer images is another measure'
            )


def _read(path: Path) -> tuple[dict[Any, str], list[dict[str, Any]]]:
    """Image id -> file name, and the annotations."""
    content = read_coco_json(path, 'captions', ('images', 'annotations'))
    check_records(path, 'images', content['images'], ('id',))
    check_records(
        path,
        'annotations',
        content['annotations'],
        ('image_id', 'caption'),
        'take captions_*.json, not instances_*.json',
    )
    images = {image['id']: file_name_of(image) for image in content['images']}
    if nameless := [image for image, name in images.items() if not name]:
        raise ValueError(
            f"{path}: expected 'file_name' or 'coco_url' in each of images, got neither for id "
            f'{nameless[0]}'
        )
    return {image: str(name) for image, name in images.items()}, content['annotations']


def _captions_by_image(
    path: Path, images: dict[Any, str], annotations: list[dict[str, Any]]
) -> dict[Any, list[str]]:
    unknown = sorted({one['image_id'] for one in annotations} - set(images), key=str)
    if unknown:
        raise ValueError(
            f'{path}: expected captions of the {len(images)} images that it lists, got captions of '
            f'{len(unknown)} others (image_id {unknown[:_NUM_NAMED]}); list these images or remove '
            'their captions'
        )
    texts: dict[Any, list[str]] = defaultdict(list)
    for one in annotations:
        if not str(one['caption']).strip():
            raise ValueError(
                f'{path}: expected captions with words, got a blank one for image '
                f'{one["image_id"]}; remove it'
            )
        texts[one['image_id']].append(one['caption'].strip())
    return texts
