"""The images of ``python -m refineclip demo``: scikit-image's sample photos, or any folder."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from refineclip.datasets.image_folder import list_images

# Of the files in scikit-image's wheel: photographs, scans and micrographs, no drawings.
TRAIN_PHOTOS = (
    'astronaut.png',
    'brick.png',
    'cell.png',
    'chelsea.png',
    'coins.png',
    'grass.png',
    'gravel.png',
    'hubble_deep_field.jpg',
    'ihc.png',
    'moon.png',
    'motorcycle_left.png',
    'page.png',
    'retina.jpg',
)
HELD_OUT_PHOTOS = ('camera.png', 'clock_motion.png', 'coffee.png', 'rocket.jpg')
MAX_HELD_OUT = 32
MIN_TRAIN, MIN_HELD_OUT = 2, 2  # both the loss and the measures contrast with other images


@dataclass
class Photos:
    """Images for training and for measuring, as names relative to a folder."""

    root: Path
    train: list[str]
    held_out: list[str]

    def write_lists(self, folder: Path) -> tuple[str, str]:
        """Write the two lists as text files; returns their paths."""
        paths = folder / 'train.txt', folder / 'held_out.txt'
        for path, names in zip(paths, (self.train, self.held_out), strict=True):
            path.write_text('\n'.join(names) + '\n', encoding='utf-8')
        return str(paths[0]), str(paths[1])


def sample_photos() -> Photos:
    """Find the photographs in the installed scikit-image.

    Raises:
        ModuleNotFoundError: scikit-image is not installed; the message holds the command.
    """
    spec = importlib.util.find_spec('skimage')
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            'expected scikit-image, whose sample photos the demo uses, got none installed; do '
            f"{sys.executable} -m pip install 'scikit-image>=0.22', or give --images FOLDER"
        )
    root = Path(spec.origin).parent / 'data'
    train, held_out = (
        [name for name in names if (root / name).is_file()]
        for names in (TRAIN_PHOTOS, HELD_OUT_PHOTOS)
    )
    return _checked(Photos(root, train, held_out))


def folder_photos(folder: Path) -> Photos:
    """Split a folder of images: every fourth in the order of names is held out, 32 at most.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds too few images.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'expected a folder of images, got {folder}, which is no folder')
    names = list_images(folder)
    held_out = names[3::4] if len(names) >= 8 else names[-MIN_HELD_OUT:]
    train = [name for name in names if name not in set(held_out)]
    return _checked(Photos(folder, train, held_out[:MAX_HELD_OUT]))


def _checked(photos: Photos) -> Photos:
    if len(photos.train) < MIN_TRAIN or len(photos.held_out) < MIN_HELD_OUT:
        raise ValueError(
            f'expected at least {MIN_TRAIN} images to train and {MIN_HELD_OUT} to measure, got '
            f'{len(photos.train)} and {len(photos.held_out)} in {photos.root}; give a folder of '
            f'{MIN_TRAIN + MIN_HELD_OUT} or more with --images'
        )
    return photos
