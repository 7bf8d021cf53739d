"""Images in, boxes with names and scores out: mmdet's inferencer with a vocabulary."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
from mmdet.apis import DetInferencer
from mmdet.apis.det_inferencer import IMG_EXTENSIONS
from mmengine.config import Config

from refineclip.datasets.vocabularies import as_vocabulary, parse_texts, title_of

Names = str | Path | Sequence[str]


class OVDetInferencer(DetInferencer):
    """:class:`mmdet.apis.DetInferencer` for detectors whose classes are words.

    Args:
        model: Config file or config.
        weights: Checkpoint of the detector; None keeps what the config loads (random heads).
        texts: What to detect: ``'zebra . traffic light'``, a list of names, or a file of them.
            None: the vocabulary of the config.
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
        if texts is not None:
            # Before the model is built, so that the config's own names are not embedded first.
            config.model.roi_head.bbox_head.classifier.update(names=list(_names(texts)))
        # It draws into files; the config's backends would ask for the folder of a run.
        config.get('visualizer', {}).pop('vis_backends', None)
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

    def __call__(self, inputs: Any, texts: Names | None = None, **kwargs: Any) -> dict[str, Any]:
        """Detect in images.

        Args:
            inputs: A file, a folder, an image array (H, W, 3) in BGR, or a list of files or arrays.
            texts: Change the vocabulary first; it stays for later calls.
            kwargs: Arguments of ``DetInferencer.__call__``: ``out_dir``, ``no_save_pred``,
                ``pred_score_thr`` of the picture, ``batch_size``, ``return_vis``, ...

        Returns:
            ``predictions``: a dict per image with ``bboxes`` (xyxy, pixels of the image),
            ``scores``, ``labels`` and ``names``; ``visualization``: pictures, if asked for.

        Raises:
            FileNotFoundError: An image does not exist, or a folder has none.
        """
        inputs = list_images(inputs)
        if texts is not None:
            self.set_vocabulary(texts)
        return super().__call__(inputs, **kwargs)

    def preprocess(self, inputs: Sequence[Any], batch_size: int = 1, **kwargs: Any) -> Any:
        """The parent's batches, with a length that the progress bar can read."""
        batches = super().preprocess(inputs, batch_size=batch_size, **kwargs)
        return _Sized(batches, math.ceil(len(inputs) / batch_size))

    def pred2dict(self, data_sample: Any, pred_out_dir: str = '') -> dict[str, Any]:
        """The parent's dict, and the name of each label."""
        result = super().pred2dict(data_sample)
        classes = self.model.dataset_meta['classes']
        result['names'] = [classes[label] for label in result['labels']]
        if pred_out_dir:
            path = getattr(data_sample, 'img_path', None)
            stem = str(self.num_predicted_imgs) if path is None else Path(path).stem
            self.num_predicted_imgs += path is None
            mmengine.dump(result, str(Path(pred_out_dir) / 'preds' / f'{stem}.json'))
        return result


class _Sized:
    """An iterator that says how many items it has."""

    def __init__(self, items: Iterable[Any], length: int) -> None:
        self.items, self.length = items, length

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __length_hint__(self) -> int:
        return self.length


def _names(texts: Names) -> tuple[str, ...]:
    if isinstance(texts, str) and not Path(texts).is_file():
        return parse_texts(texts)
    return as_vocabulary(texts, 'texts')


def list_images(inputs: Any) -> list[Any]:
    """Files and arrays out of what the inferencer takes; folders give their images, sorted.

    Raises:
        FileNotFoundError: A path does not exist, or a folder has no image.
    """
    single = isinstance(inputs, str | Path | np.ndarray)
    images: list[Any] = []
    for item in [inputs] if single else inputs:
        if isinstance(item, np.ndarray):
            images.append(item)
            continue
        path = Path(item)
        if not path.exists():
            raise FileNotFoundError(f'expected an image or a folder, got {path}: no such file')
        found = (
            sorted(p for p in path.iterdir() if p.suffix.lower() in IMG_EXTENSIONS)
            if path.is_dir()
            else [path]
        )
        if not found:
            raise FileNotFoundError(
                f'{path}: expected images ({", ".join(IMG_EXTENSIONS)}), got none'
            )
        images += [str(file) for file in found]
    return images
