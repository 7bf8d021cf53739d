"""Image embeddings of many files, each file read once for all encoders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from mmengine.logging import print_log
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from refineclip.datasets.image_io import BadImageError, read_image
from refineclip.encoders.finite import check_finite
from refineclip.encoders.sources import resolve_source
from refineclip.encoders.towers.dense_vit import DenseViT
from refineclip.encoders.weights.weights_hash import weights_hash

from ..streams import ImageStream, ResultStore, describe_file, digest
from ..streams.image_stream import Track

RESIZE_MODES = ('shortest', 'longest', 'squash')
INTERPOLATIONS = ('bicubic', 'bilinear')
_NUM_NAMED = 5

# What an item of the loader is: its index, and its pixels or why there are none.
Item = tuple[int, Tensor | str]


@dataclass(frozen=True)
class ImageTransform:
    """How a photo becomes the input of an image tower: open_clip's own evaluation transform.

    Attributes:
        image_size: (height, width) in pixels.
        image_mean: Mean of the RGB channels, in [0, 1].
        image_std: Standard deviation of the RGB channels, in [0, 1].
        resize_mode: ``'shortest'`` resizes the shorter side and crops the centre, ``'longest'``
            the longer one and pads, ``'squash'`` both.
        interpolation: ``'bicubic'`` or ``'bilinear'``.
    """

    image_size: tuple[int, int]
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    resize_mode: str = 'shortest'
    interpolation: str = 'bicubic'

    def __post_init__(self) -> None:
        for name, value, known in (
            ('resize_mode', self.resize_mode, RESIZE_MODES),
            ('interpolation', self.interpolation, INTERPOLATIONS),
        ):
            if value not in known:
                raise ValueError(f'{name}: expected one of {known}, got {value!r}')

    def build(self) -> Callable[[Any], Tensor]:
        """Build the function from a PIL image to a normalised (3, H, W) tensor."""
        return open_clip.image_transform(
            self.image_size,
            is_train=False,
            mean=self.image_mean,
            std=self.image_std,
            resize_mode=self.resize_mode,
            interpolation=self.interpolation,
        )


def library_transform(
    visual: DenseViT,
    model: str | dict[str, Any],
    pretrained: str | None = None,
    image_size: int | None = None,
    resize_mode: str | None = None,
    interpolation: str | None = None,
) -> ImageTransform:
    """What the library does to photos for a tower, save what is asked for otherwise.

    Args:
        visual: The tower: its native size and normalisation.
        model: Its name or config in open_clip, see :func:`~refineclip.encoders.build_clip`.
        pretrained: Tag, file or folder of the weights; tags and folders say how to resize.
        image_size: Side in pixels instead of the native size.
        resize_mode: Instead of the library's.
        interpolation: Instead of the library's.

    Raises:
        ValueError: If the size is no multiple of the patch, or a name is unknown.
    """
    size = visual.native_size if image_size is None else (image_size, image_size)
    if any(side < 1 or side % visual.patch_size for side in size):
        raise ValueError(
            f'image_size: expected a multiple of the patch {visual.patch_size}, got {size}'
        )
    source = resolve_source(model, pretrained)
    return ImageTransform(
        (size[0], size[1]),
        visual.image_mean,
        visual.image_std,
        resize_mode or source.resize_mode,
        interpolation or source.interpolation,
    )


@dataclass(frozen=True)
class ImageEmbeddings:
    """Image embeddings of the files that could be read.

    Attributes:
        features: Encoder -> (N, D) float32 on the CPU, L2-normalised. Encoders of one tower share
            the tensor.
        kept: (N,) index of each row among the files asked for, increasing.
        bad: Path and reason of every file that was skipped.
    """

    features: dict[str, Tensor]
    kept: NDArray[np.int64]
    bad: tuple[tuple[str, str], ...]


@torch.inference_mode()
def embed_images(
    encoders: Mapping[str, Any],
    paths: Sequence[str | Path],
    transform: ImageTransform,
    batch_size: int = 64,
    num_workers: int = 0,
    device: str | torch.device = 'cpu',
    track: Track | None = None,
    cache_dir: str | Path | None = None,
) -> ImageEmbeddings:
    """Embed image files with several encoders in one pass.

    Encoders whose ``visual`` is one module run it once, as
    :func:`~refineclip.evaluation.encoders.load_encoders` arranges for equal weights. A file that
    cannot be read is skipped for all of them, named in a warning and counted. Processes share the
    batches, so all of them have to call this; the embeddings of all images are held, no image is.

    Args:
        encoders: By name.
        paths: The files.
        transform: What becomes of a photo.
        batch_size: Images per forward pass.
        num_workers: Processes that read files; 0 reads in this one.
        device: Where the encoders are.
        track: Wraps the loop over batches, to show progress.
        cache_dir: Folder where the embeddings of each batch are kept, so that a call that was
            stopped goes on; None keeps nothing.

    Raises:
        ValueError: If no file can be read, or an embedding is not finite.
    """
    towers = {name: id(getattr(one, 'visual', one)) for name, one in encoders.items()}
    unique = {tower: name for name, tower in reversed(towers.items())}
    batches = [
        list(range(len(paths)))[i : i + batch_size] for i in range(0, len(paths), batch_size)
    ]
    stream = _stream(
        [encoders[name] for name in unique.values()], paths, batches, transform, cache_dir, track
    )
    loader = DataLoader(
        _Files(paths, transform),
        batch_sampler=[batches[number] for number in stream.missing],
        num_workers=num_workers,
        collate_fn=_collate,
    )
    for number, (indices, images, reasons) in zip(stream, loader, strict=True):
        first, rows = batches[number][0], []
        for name in unique.values() if indices else ():
            embedded = encoders[name].image_embedding(images.to(device)).float().cpu()
            check_finite(embedded, 'image embeddings', [paths[index] for index in indices], name)
            rows.append(F.normalize(embedded, dim=1))
        # By their place in the batch, which may be another among other files.
        kept = [index - first for index in indices]
        missed = [[index - first, reason] for index, reason in reasons]
        stream.put(number, {'kept': kept, 'bad': missed, 'rows': rows})
    found = list(zip((batch[0] for batch in batches), stream.gather(), strict=True))
    bad = [(str(paths[first + i]), reason) for first, one in found for i, reason in one['bad']]
    _tell_bad(bad, len(paths))
    parts = [one['rows'] for _, one in found if one['rows']]
    joined = {t: torch.cat([rows[i] for rows in parts]) for i, t in enumerate(unique)}
    return ImageEmbeddings(
        {name: joined[tower] for name, tower in towers.items()},
        np.array([first + i for first, one in found for i in one['kept']], dtype=np.int64),
        tuple(bad),
    )


def _stream(
    encoders: Sequence[Any],
    paths: Sequence[str | Path],
    batches: Sequence[Sequence[int]],
    transform: ImageTransform,
    cache_dir: str | Path | None,
    track: Track | None,
) -> ImageStream:
    """The batches that this process has to embed."""
    if cache_dir is None:
        return ImageStream(len(batches), track=track)
    settings = dict(
        kind='image embeddings',
        towers=[weights_hash(getattr(one, 'visual', one)) for one in encoders],
        transform=asdict(transform),
    )
    keys = [digest([describe_file(paths[index]) for index in batch]) for batch in batches]
    return ImageStream(keys, ResultStore(cache_dir, settings), track)


class _Files(Dataset[Item]):
    """Transformed images, or the reason why there is none."""

    def __init__(self, paths: Sequence[str | Path], transform: ImageTransform) -> None:
        self.paths = paths
        self.transform = transform.build()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Item:
        try:
            image = read_image(self.paths[index], min_size=1)
        except BadImageError as error:
            return index, error.reason
        return index, self.transform(image)


def _collate(items: list[Item]) -> tuple[list[int], Tensor, list[tuple[int, str]]]:
    """Indices and pixels (B, 3, H, W) of readable images; index and reason of the others."""
    good = [(index, one) for index, one in items if isinstance(one, Tensor)]
    reasons = [(index, one) for index, one in items if isinstance(one, str)]
    images = torch.stack([one for _, one in good]) if good else torch.empty(0)
    return [index for index, _ in good], images, reasons


def _tell_bad(bad: Sequence[tuple[str, str]], num_files: int) -> None:
    named = '; '.join(f'{path}: {reason}' for path, reason in bad[:_NUM_NAMED])
    more = f'; and {len(bad) - _NUM_NAMED} more' if len(bad) > _NUM_NAMED else ''
    if len(bad) == num_files:
        raise ValueError(
            f'expected image files that can be read, got {num_files} of which none can: '
            f'{named}{more}'
        )
    if bad:
        print_log(
            f'{len(bad)} of {num_files} images could not be read and were skipped: {named}{more}',
            logger='current',
            level=logging.WARNING,
        )
