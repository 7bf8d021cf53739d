"""Images in, boxes with names and scores out: mmdet's inferencer with a vocabulary."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
from mmdet.apis import DetInferencer
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from numpy.typing import NDArray
from PIL import Image

from refineclip.datasets.image_inputs import NamedImage, find_inputs
from refineclip.datasets.image_io import IMAGE_SUFFIXES, BadImageError, read_image
from refineclip.datasets.vocabularies import as_vocabulary, title_of

from .text_classifier import BACKGROUND

Names = str | Path | Sequence[str]
LOADERS = ('LoadUprightImage', 'LoadImageFromFile', 'LoadImageFromNDArray')
NO_PIXELS: NDArray[np.uint8] = np.zeros((0, 0, 3), dtype=np.uint8)


class OVDetInferencer(DetInferencer):
    """:class:`mmdet.apis.DetInferencer` for detectors whose classes are words.

    Args:
        model: Config file or config.
        weights: Checkpoint of the detector; None keeps what the config loads (random heads).
        texts: What to detect: ``'zebra . traffic light'``, a list of names, or a file of them, see
            :func:`~refineclip.datasets.vocabularies.as_vocabulary`. None: the vocabulary of the
            config.
        kwargs: Further arguments of ``DetInferencer``, such as ``device``.

    Raises:
        ValueError: A name is empty or doubled, or the checkpoint is of another detector.
        FileNotFoundError: A file does not exist.

    Examples:
        >>> detect = OVDetInferencer('fvit_....py', 'epoch_3.pth')  # doctest: +SKIP
        >>> result = detect('street.jpg', texts='bus . traffic light', out_dir='out')
        >>> result['predictions'][0]['names'], result['predictions'][0]['scores']
    """

    def __init__(
        self,
        model: str | Path | Config,
        weights: str | Path | None = None,
        texts: Names | None = None,
        **kwargs: Any,
    ) -> None:
        for path in (model, weights):
            if isinstance(path, str | Path) and not Path(path).is_file():
                raise FileNotFoundError(f'expected a file, got {path}, which does not exist')
        config = Config.fromfile(model) if isinstance(model, str | Path) else copy.deepcopy(model)
        if config.get('model', {}).get('roi_head') is None:
            raise ValueError(
                'expected the config of an F-ViT detector, got one of '
                f'{config.get("model", {}).get("type")}'
            )
        if texts is not None:
            # Before the model is built, so that the config's own names are not embedded first.
            config.model.roi_head.bbox_head.classifier.update(names=list(_names(texts)))
        # It draws into files; the config's backends would ask for the folder of a run.
        config.get('visualizer', {}).pop('vis_backends', None)
        # The parent sets the default scope of the process, which other libraries' code would meet.
        with DefaultScope.overwrite_default_scope('mmdet'):
            super().__init__(config, None if weights is None else str(weights), **kwargs)
        self._name_classes()

    def set_vocabulary(self, texts: Names) -> None:
        """Detect other things from now on; see the class for ``texts``."""
        self.model.set_vocabulary(_names(texts))
        self._name_classes()

    def _name_classes(self) -> None:
        titles = tuple(title_of(name) for name in self.model.vocabulary)
        if titles != tuple(self.model.dataset_meta['classes']):
            self.model.dataset_meta = dict(classes=titles, palette='random')
            self.visualizer.dataset_meta = self.model.dataset_meta

    def _init_pipeline(self, cfg: Config) -> Compose:
        """The test pipeline without its loading: images are read by the reader of everything."""
        steps = [dict(step) for step in cfg.test_dataloader.dataset.pipeline]
        if 'meta_keys' in steps[-1]:
            steps[-1]['meta_keys'] = [key for key in steps[-1]['meta_keys'] if key != 'img_id']
        return Compose([step for step in steps if str(step['type']).split('.')[-1] not in LOADERS])

    def __call__(
        self,
        inputs: Any,
        texts: Names | None = None,
        on_bad_image: str = 'raise',
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Detect in images.

        With ``out_dir`` the picture of ``photos/deep/a.jpg`` is ``vis/deep/a.jpg`` for ``photos/``,
        and its boxes ``preds/deep/a.json``, see
        :func:`~refineclip.datasets.image_inputs.find_inputs`.

        Args:
            inputs: A file, a folder (searched with its sub-folders), an image array (H, W, 3) in
                BGR, or a list of such files, folders or arrays.
            texts: Change the vocabulary first; it stays for later calls.
            on_bad_image: ``'raise'`` a BadImageError when a file cannot be used, or ``'skip'`` it
                and go on.
            kwargs: Arguments of ``DetInferencer.__call__``: ``out_dir``, ``no_save_pred``,
                ``pred_score_thr`` of the picture, ``batch_size``, ``return_vis``, ...

        Returns:
            ``predictions``: a dict per image with ``bboxes`` (xyxy, pixels of the image),
            ``scores``, ``labels`` and ``names``; ``visualization``: pictures, if asked for;
            ``img_paths``: the file of each prediction, '' of an array; ``bad_images``: (path,
            reason) of each file that was skipped.

        Raises:
            FileNotFoundError: An image does not exist.
            ValueError: A folder has no image, or features or scores are not finite.
            BadImageError: A file cannot be used; results of those before it are written.
        """
        if on_bad_image not in ('raise', 'skip'):
            raise ValueError(f"on_bad_image: expected 'raise' or 'skip', got {on_bad_image!r}")
        out_dir = kwargs.get('out_dir')
        photos = list_inputs(inputs, Path(out_dir) if out_dir else None)
        if texts is not None:
            self.set_vocabulary(texts)
        self.skip_bad = on_bad_image == 'skip'
        self.done: list[Photo] = []
        self.bad_images: list[tuple[str, str]] = []
        with DefaultScope.overwrite_default_scope('mmdet'):
            result = super().__call__(photos, **kwargs)
        paths = ['' if photo.file is None else str(photo.file.path) for photo in self.done]
        return {**result, 'img_paths': paths, 'bad_images': self.bad_images}

    def preprocess(self, inputs: Sequence[Any], batch_size: int = 1, **kwargs: Any) -> Any:
        """The parent's batches, with a length that the progress bar can read."""
        batches = super().preprocess(inputs, batch_size=batch_size, **kwargs)
        return _Sized(batches, math.ceil(len(inputs) / batch_size))

    def _get_chunk_data(
        self, inputs: Iterable[Photo], chunk_size: int
    ) -> Iterator[list[tuple[Photo, Any]]]:
        """Read images into batches; those that cannot be used make room for the next."""
        chunk: list[tuple[Photo, Any]] = []
        for photo in inputs:
            try:
                photo = photo.read()
            except BadImageError as error:
                if not self.skip_bad:
                    raise
                self.bad_images.append((error.path, error.reason))
                continue
            size = photo.pixels.shape[:2]
            path = '' if photo.file is None else str(photo.file.path)
            item = dict(img=photo.pixels, img_path=path, img_shape=size, ori_shape=size)
            chunk.append((photo, self.pipeline(item)))
            if len(chunk) == chunk_size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def visualize(
        self,
        inputs: Sequence[Photo],
        preds: Sequence[Any],
        return_vis: bool = False,
        show: bool = False,
        wait_time: int = 0,
        draw_pred: bool = True,
        pred_score_thr: float = 0.3,
        no_save_vis: bool = False,
        img_out_dir: str = '',
        **kwargs: Any,
    ) -> list[NDArray[np.uint8]] | None:
        """Draw on the pixels that were detected in; see the parent for arguments."""
        first = len(self.done)
        self.done += [photo.forget() for photo in inputs]
        folder = None if no_save_vis or not img_out_dir else Path(img_out_dir) / 'vis'
        if not show and folder is None and not return_vis:
            return None
        drawn = []
        for index, (photo, pred) in enumerate(zip(inputs, preds, strict=True), first):
            self.visualizer.add_datasample(
                photo.name(index),
                photo.pixels[..., ::-1],
                pred,
                draw_gt=False,
                draw_pred=draw_pred,
                show=show,
                wait_time=wait_time,
                pred_score_thr=pred_score_thr,
            )
            drawn.append(self.visualizer.get_image())
            if folder is not None:
                path = folder / photo.name(index)
                path.parent.mkdir(parents=True, exist_ok=True)
                # What was named may have a suffix that nobody writes; its name stays its own.
                known = path.suffix.lower() in IMAGE_SUFFIXES
                Image.fromarray(drawn[-1]).save(path, None if known else 'PNG', quality=95)
        return drawn

    def postprocess(
        self,
        preds: Sequence[Any],
        visualization: Any = None,
        return_datasamples: bool = False,
        no_save_pred: bool = False,
        pred_out_dir: str = '',
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The parent's results, and boxes with names into ``preds``."""
        result = super().postprocess(
            preds, visualization, return_datasamples, no_save_pred=True, **kwargs
        )
        if pred_out_dir and not no_save_pred and not return_datasamples:
            first = len(self.done) - len(preds)
            for index, found in enumerate(result['predictions'], first):
                mmengine.dump(found, str(self.done[index].result(index, Path(pred_out_dir))))
        return result

    def pred2dict(self, data_sample: Any, pred_out_dir: str = '') -> dict[str, Any]:
        """The parent's dict, and the name of each label."""
        result = super().pred2dict(data_sample)
        classes = self.model.dataset_meta['classes']
        result['names'] = [classes[label] for label in result['labels']]
        return result


@dataclass(frozen=True)
class Photo:
    """An input: a file, or the pixels of an array; ``pixels`` (H, W, 3) BGR once it is read."""

    file: NamedImage | None
    pixels: NDArray[np.uint8]

    def read(self) -> Photo:
        """Read the file.

        Raises:
            BadImageError: It cannot be used.
        """
        if self.file is None:
            return self
        rgb = np.asarray(read_image(self.file.path, min_size=1))
        return replace(self, pixels=np.ascontiguousarray(rgb[..., ::-1]))

    def forget(self) -> Photo:
        """The same without its pixels."""
        return replace(self, pixels=NO_PIXELS)

    def name(self, index: int) -> str:
        """Path of its picture, below a folder."""
        return f'{index:08d}.jpg' if self.file is None else str(self.file.name)

    def result(self, index: int, out_dir: Path) -> Path:
        """File of its boxes."""
        if self.file is None:
            return out_dir / 'preds' / f'{index:08d}.json'
        return self.file.result(out_dir / 'preds', '.json')


class _Sized:
    """An iterator that says how many items it has."""

    def __init__(self, items: Iterable[Any], length: int) -> None:
        self.items, self.length = items, length

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __length_hint__(self) -> int:
        return self.length


def _names(texts: Names) -> tuple[str, ...]:
    names = as_vocabulary(texts, 'texts')
    kept = tuple(name for name in names if title_of(name).lower() != BACKGROUND)
    if not kept:
        raise ValueError(f'texts: expected something to detect, got {BACKGROUND!r} only')
    if len(kept) < len(names):
        print_log(
            f'texts: {BACKGROUND!r} is used as what every detector has: the class of no object, '
            'which has no boxes',
            logger='current',
            level=logging.WARNING,
        )
    return kept


def list_inputs(inputs: Any, out_dir: Path | None = None) -> list[Photo]:
    """Files and arrays out of what the inferencer takes; folders give their images, sorted.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: A folder has no image, or there is no input.
    """
    single = isinstance(inputs, str | Path | np.ndarray)
    given = [inputs] if single else list(inputs)
    arrays = [Photo(None, item) for item in given if isinstance(item, np.ndarray)]
    if arrays and len(arrays) < len(given):
        raise ValueError('expected files or arrays, got both; call twice')
    return arrays or [Photo(file, NO_PIXELS) for file in find_inputs(given, out_dir)]
