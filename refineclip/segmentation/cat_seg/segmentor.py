"""CAT-Seg (CVPR 2024): open-vocabulary segmentation by cost aggregation, on any CLIP-like ViT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmseg.models.segmentors import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.utils import parametrize

from refineclip.datasets.vocabularies import as_vocabulary
from refineclip.encoders import RefinerCLIP
from refineclip.encoders.finite import check_finite
from refineclip.encoders.weights.checkpoint_guard import require_whole_checkpoint

from ..sliding_windows import resize
from .query_value_tuning import train_query_value_only
from .window_inference import (
    Size,
    ViewLogits,
    WholePlan,
    WindowPlan,
    predict_labels,
    predict_probabilities,
)

# Published: 640 px, windows of 384 px, stride int(384 * (1 - 0.333)).
TEST_CFG = dict(mode='windows', size=(640, 640), window=384, stride=256)
MAPS_PER_PASS = 256


@MODELS.register_module()
class CATSeg(BaseSegmentor):
    """Segment any vocabulary by aggregating the costs of matching pixels to class names.

    CAT-Seg, arXiv 2303.11797, in the version of CVPR 2024. mmseg's own ``projects/CAT-Seg`` is the
    first arXiv version, another model. One pass of the image tower gives the dense embeddings and,
    from intermediate blocks, the guidance of the decoder; the text tower runs once per step and
    learns as well.

    Args:
        backbone: Config of a :class:`~refineclip.encoders.refiner_clip.RefinerCLIP` with three
            ``out_indices``, the last block last; guidance comes from blocks 3 and 7 of a B, 7 and
            15 of an L. ``frozen=False`` to train it. ``dense_mode='value-cls'`` is the published
            map; towers without class token (SigLIP) take ``'value'``.
        text_encoder: Config of a :class:`~refineclip.segmentation.PromptedTextEncoder` of the same
            CLIP.
        decode_head: Config of a :class:`~refineclip.segmentation.CostAggregationHead`; the widths
            are filled in.
        vocabulary: Class names, or a file of them (one a line). None waits for
            :meth:`set_vocabulary`, which ``VocabularyHook`` calls with the classes of the data set.
        clip_tuning: ``'query-value'`` lets only the query and value projections of the towers that
            are not frozen learn, as released; None leaves it to the towers' own keys.
        input_size: (height, width) in pixels that images and windows are resized to for the image
            tower: its native size in the released recipes. None keeps their size.
        data_preprocessor: Config of mmseg's ``SegDataPreProcessor`` with the mean and standard
            deviation of the CLIP.
        train_cfg: Unused, as in mmseg.
        test_cfg: ``mode='windows'`` with ``size``, ``window``, ``stride`` (the published test, and
            the default), or ``mode='whole'``, one view. ``class_chunk`` (default 16) classes are
            brought to label size at a time. ``maps_per_pass`` cost maps (views times classes) are
            run at a time, at least one view: by default 256, and one view on a CPU, whose caches do
            not hold more. ``return_logits=True`` also returns ``seg_logits``, which are
            probabilities ``(C, H, W)`` and take as much memory as they look.
        pretrained: Only None, which mmseg's ``init_model`` passes to every segmentor.
        init_cfg: mmengine's initialisation.

    Raises:
        TypeError: If the backbone is no RefinerCLIP.
        ValueError: If its maps do not fit, a key is unknown, or there is no vocabulary.
    """

    align_corners = False

    def __init__(
        self,
        backbone: dict[str, Any],
        text_encoder: dict[str, Any],
        decode_head: dict[str, Any],
        vocabulary: Sequence[str] | str | Path | None = None,
        clip_tuning: str | None = 'query-value',
        input_size: Size | None = None,
        data_preprocessor: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        pretrained: None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        require_whole_checkpoint(self)
        if pretrained is not None:
            raise ValueError(
                f'expected pretrained=None, got {pretrained!r}; weights of the towers are named in '
                'backbone and text_encoder'
            )
        self.backbone = MODELS.build(backbone)
        _check_backbone(self.backbone)
        self.text_encoder = MODELS.build(text_encoder)
        visual = self.backbone.visual
        widths = dict(width=visual.width, text_dims=visual.embed_dim)
        self.decode_head = MODELS.build({**widths, **decode_head})
        if clip_tuning not in ('query-value', None):
            raise ValueError(f"clip_tuning: expected 'query-value' or None, got {clip_tuning!r}")
        if clip_tuning is not None:
            for tower, frozen in (
                (visual, self.backbone.frozen),
                (self.text_encoder.text, self.text_encoder.frozen),
            ):
                if not frozen:
                    train_query_value_only(tower)
        self.input_size = None if input_size is None else (input_size[0], input_size[1])
        self.train_cfg = train_cfg
        self.test_cfg = dict(TEST_CFG if test_cfg is None else test_cfg)
        self._read_test_cfg(**self.test_cfg)
        self.vocabulary: tuple[str, ...] = ()
        if vocabulary is not None:
            self.set_vocabulary(vocabulary)

    def _read_test_cfg(
        self,
        mode: str = 'windows',
        size: Size | int | None = None,
        window: int | None = None,
        stride: int | None = None,
        class_chunk: int = 16,
        maps_per_pass: int | None = None,
        return_logits: bool = False,
    ) -> None:
        self.class_chunk, self.maps_per_pass = class_chunk, maps_per_pass
        self.return_logits = return_logits
        if mode not in ('windows', 'whole'):
            raise ValueError(f"test_cfg: expected mode 'windows' or 'whole', got {mode!r}")
        given = [size, window, stride]
        if mode == 'whole':
            if given != [None] * 3:
                raise ValueError(
                    f"test_cfg: expected no size, window or stride with mode='whole', got {given}; "
                    'a config that inherits them sets test_cfg=dict(_delete_=True, ...)'
                )
            self.plan: WindowPlan | WholePlan = WholePlan()
            return
        if size is None or window is None or stride is None:
            raise ValueError(
                f"test_cfg: expected size, window and stride with mode='windows', got {given}"
            )
        height, width = (size, size) if isinstance(size, int) else size
        self.plan = WindowPlan((height, width), window, stride)

    def set_vocabulary(self, names: Sequence[str] | str | Path, distinct: bool = True) -> None:
        """Take other class names from here on; nothing that was learned changes.

        Args:
            names: C class names, synonyms after ``;``, of which the first is used; or a file.
            distinct: Refuse equal names; False for the classes of a data set, of which the first
                of several equal ones is predicted.

        Raises:
            ValueError: If there is no name, one is empty, or one appears twice.
        """
        self.vocabulary = as_vocabulary(names, distinct=distinct)

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encode images, one pass.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.

        Returns:
            Dense embeddings ``(B, D, h, w)`` and the two intermediate maps ``(B, W, h, w)``.
        """
        if self.input_size is not None:
            inputs = resize(inputs, self.input_size)
        with parametrize.cached():  # each projection is joined once per pass
            *intermediate, last = self.backbone(inputs)
        return self.backbone.project_map(last), intermediate

    def embed_vocabulary(self) -> Tensor:
        """Return text embeddings ``(C, D)``, L2-normalised."""
        if not self.vocabulary:
            raise ValueError(
                'expected class names, got an empty vocabulary; call set_vocabulary, set '
                "vocabulary=... in the model's config, or add dict(type='VocabularyHook') to "
                'custom_hooks'
            )
        with parametrize.cached():
            return self.text_encoder(self.vocabulary)

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Return the losses of a batch.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
            data_samples: With ``gt_sem_seg`` of the images' size.
        """
        labels = torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in data_samples])
        if labels.shape[1:] != inputs.shape[2:]:
            raise ValueError(
                f'expected masks of the size of the images {tuple(inputs.shape[2:])}, got '
                f'{tuple(labels.shape[1:])}'
            )
        text = self.embed_vocabulary()
        image, intermediate = self.extract_feat(inputs)
        return self.decode_head.loss(image, intermediate, text, labels)

    def encode_decode(
        self, inputs: Tensor, batch_data_samples: list[SegDataSample] | None = None
    ) -> Tensor:
        """Return logits ``(B, C, 4h, 4w)`` of images as they are, without windows."""
        image, intermediate = self.extract_feat(inputs)
        return self.decode_head(image, intermediate, self.embed_vocabulary())

    def _forward(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> Tensor:
        """See :meth:`encode_decode`."""
        return self.encode_decode(inputs, data_samples)

    @torch.no_grad()
    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Segment images.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
            data_samples: Their meta data: ``ori_shape`` is the size of the result,
                ``padding_size`` (left, right, top, bottom) is cut off first, a flip is undone.

        Returns:
            Samples with ``pred_sem_seg`` ``(1, H, W)`` int64, and ``seg_logits`` ``(C, H, W)`` if
            ``return_logits``: probabilities, as the published model returns them.

        Raises:
            ValueError: If scores are not finite.
        """
        if data_samples is None:
            data_samples = [SegDataSample() for _ in inputs]
        text = self.embed_vocabulary()
        for image, sample in zip(inputs, data_samples, strict=True):
            image, size, flip = _unpadded(image, sample.metainfo)
            views = self.score_views(self.plan.views(image), text)
            source = sample.metainfo.get('img_path') or 'an image'
            check_finite(views.logits, 'scores', [source] * len(views.logits))
            merging = (views, self.plan, size, self.class_chunk, flip)
            if self.return_logits:
                probabilities = predict_probabilities(*merging)
                sample.seg_logits = PixelData(data=probabilities)
                labels = probabilities.argmax(0)
            else:
                labels = predict_labels(*merging)
            sample.pred_sem_seg = PixelData(data=labels[None])
        return data_samples

    def score_views(self, views: Tensor, text: Tensor) -> ViewLogits:
        """Score the classes in views ``(K, 3, H, W)`` of one image, several views at a time."""
        scores = []
        for part in views.split(self._views_per_pass(len(text), views.device)):
            image, intermediate = self.extract_feat(part)
            scores.append(self.decode_head.score(image, intermediate, text))
        logits, classes = zip(*scores, strict=True)
        ran = None if classes[0] is None else torch.cat(classes)
        return ViewLogits(torch.cat(logits), ran, len(text))

    def _views_per_pass(self, num_classes: int, device: torch.device) -> int:
        maps = self.maps_per_pass
        if maps is None:
            if device.type == 'cpu':
                return 1
            maps = MAPS_PER_PASS
        pad_len = self.decode_head.aggregator.pad_len
        return max(1, maps // (min(num_classes, pad_len) if pad_len else num_classes))


def _check_backbone(backbone: Any) -> None:
    """Raise if a backbone does not give guidance and last-block maps at the token grid."""
    if not isinstance(backbone, RefinerCLIP):
        raise TypeError(
            f'CATSeg: expected a backbone of type RefinerCLIP, got {type(backbone).__name__}'
        )
    last = backbone.visual.num_blocks - 1
    indices = backbone.out_indices
    if indices is None or len(indices) != 3 or indices[-1] != last:
        raise ValueError(
            f'CATSeg: expected out_indices of two intermediate blocks and the last one, ({last}), '
            f'got {indices}'
        )
    if backbone.pyramid.projections is not None or backbone.pyramid.scales is not None:
        raise ValueError(
            'CATSeg: expected a backbone without out_channels and out_strides, got one with them; '
            'the head works on the token grid'
        )


def _unpadded(image: Tensor, meta: dict[str, Any]) -> tuple[Tensor, Size, int | None]:
    """Return an image without padding, the size of its labels, and the flipped axis."""
    padding = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
    left, right, top, bottom = padding
    height, width = image.shape[1:]
    image = image[:, top : height - bottom, left : width - right]
    size = tuple(meta.get('ori_shape', image.shape[1:]))[:2]
    if not meta.get('flip'):
        return image, (size[0], size[1]), None
    return image, (size[0], size[1]), {'horizontal': 2, 'vertical': 1}[meta['flip_direction']]
