"""Segment image files with any open-vocabulary segmentor, in a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from mmseg.models.segmentors.base import BaseSegmentor
from numpy.typing import NDArray
from PIL import Image

from refineclip.datasets.image_io import read_image

from .training_free.segmentor import TextSegmentor

NOT_FOR_FILES = (
    *('LoadUprightImage', 'LoadImageFromFile', 'LoadImageFromNDArray'),
    *('LoadAnnotations', 'LoadSegLabels'),
)


def build_text_segmentor(
    model: str | dict[str, Any],
    pretrained: str | None,
    vocabulary: Sequence[str] | str | Path,
    checkpoint: str | Path | None = None,
    dense_mode: str = 'value',
    templates: str | Sequence[str] = 'vild',
    device: str | torch.device = 'cpu',
    **kwargs: Any,
) -> TextSegmentor:
    """Build a training-free segmentor, ready to predict.

    Args:
        model: Architecture, see :func:`~refineclip.encoders.build.build_clip`.
        pretrained: Weights of both towers.
        vocabulary: Class names, synonyms separated by ``;``; or a file of them.
        checkpoint: Refined weights of the vision tower (``refined_*.pth``).
        dense_mode: What the last block does for dense maps.
        templates: Prompts, see :class:`~refineclip.encoders.text.TextEmbedder`.
        device: Where the model goes.
        **kwargs: Further arguments of :class:`TextSegmentor`.

    Examples:
        >>> from refineclip.segmentation import build_text_segmentor, segment_image
        >>> names = ['zebra', 'grass', 'sky']  # doctest: +SKIP
        >>> model = build_text_segmentor('ViT-B-16', 'openai', names)  # doctest: +SKIP
        >>> labels = segment_image(model, 'photo.jpg')  # (H, W) indices  # doctest: +SKIP
        >>> (labels == names.index('zebra')).mean()  # share of zebra  # doctest: +SKIP
    """
    backbone: dict[str, Any] = dict(
        type='RefinerCLIP', model=model, pretrained=pretrained, dense_mode=dense_mode
    )
    if checkpoint is not None:
        backbone['init_cfg'] = dict(type='Pretrained', checkpoint=str(checkpoint))
    with DefaultScope.overwrite_default_scope('mmseg'):
        segmentor = TextSegmentor(
            backbone, dict(model=model, pretrained=pretrained, templates=templates), **kwargs
        )
    segmentor.set_vocabulary(vocabulary)
    return segmentor.to(device).eval()


def load_segmentor(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    vocabulary: Sequence[str] | str | Path | None = None,
    device: str | torch.device = 'cpu',
) -> tuple[BaseSegmentor, list[dict[str, Any]]]:
    """Build the segmentor of a config, ready to predict.

    Args:
        config: Config of a segmentor, or a file of it.
        checkpoint: What its training saved; of a TextSegmentor a checkpoint of its encoder.
        vocabulary: Class names, or a file of them; None takes the model's own.
        device: Where the model goes.

    Returns:
        The model, and the test pipeline for :func:`segment_image`.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the checkpoint does not fit, or the model cannot take other names.
    """
    for path in (config, checkpoint):
        if isinstance(path, str | Path) and not Path(path).is_file():
            raise FileNotFoundError(f'expected a file at {path}, got none')
    cfg = config if isinstance(config, Config) else Config.fromfile(config)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmseg'):
        model = MODELS.build(cfg.model)
    if not isinstance(model, BaseSegmentor):
        raise ValueError(f'expected the config of a segmentor, got one of {type(model).__name__}')
    if checkpoint is not None:
        try:
            load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True)
        except RuntimeError as error:
            raise ValueError(f'{checkpoint}: {error}') from error
    if vocabulary is not None:
        if not hasattr(model, 'set_vocabulary'):
            raise ValueError(
                'expected a model with set_vocabulary (TextSegmentor, CATSeg), got '
                f'{type(model).__name__}, whose classes are fixed'
            )
        model.set_vocabulary(vocabulary)
    pipeline = cfg.test_dataloader.dataset.pipeline
    return model.to(device).eval(), [dict(step) for step in pipeline]


def default_pipeline(short_side: int = 336) -> list[dict[str, Any]]:
    """Transforms that read an image and resize its shorter side.

    Args:
        short_side: Pixels; 336 is what SCLIP (arXiv 2312.01597) evaluates at.
    """
    return [
        dict(type='LoadUprightImage'),
        dict(type='Resize', scale=(2048, short_side), keep_ratio=True),
        dict(type='PackSegInputs'),
    ]


@torch.no_grad()
def segment_image(
    model: BaseSegmentor,
    image: str | Path | Image.Image,
    pipeline: Sequence[dict[str, Any]] | None = None,
    name: str = '',
) -> NDArray[np.int64]:
    """Segment one image.

    Args:
        model: A segmentor of mmseg, in eval mode.
        image: The file, or its picture as :func:`~refineclip.datasets.image_io.read_image` gives
            it.
        pipeline: Test pipeline; transforms that load labels are left out, and whatever loads the
            image is replaced by ``read_image``. Default: :func:`default_pipeline`.
        name: What errors call a picture; of a file its path.

    Returns:
        (H, W) class indices at the size of the image as it is shown, turned as EXIF says.

    Raises:
        FileNotFoundError: If there is no such file.
        BadImageError: If it cannot be used.
        ValueError: If the model's scores are not finite.
    """
    if not isinstance(image, Image.Image):
        if not Path(image).is_file():
            raise FileNotFoundError(f'expected an image at {image}, got no file')
        image, name = read_image(image, min_size=1), str(image)
    steps = [
        step
        for step in (default_pipeline() if pipeline is None else pipeline)
        if str(step['type']).split('.')[-1] not in NOT_FOR_FILES
    ]
    pixels = np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])
    size = pixels.shape[:2]
    # Whatever scope is the process's default, and without leaving one behind.
    with DefaultScope.overwrite_default_scope('mmseg'):
        item = Compose(steps)(dict(img=pixels, img_path=name, img_shape=size, ori_shape=size))
        [sample] = model.test_step(pseudo_collate([item]))
    return sample.pred_sem_seg.data[0].cpu().numpy()
