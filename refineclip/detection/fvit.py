"""F-ViT: an open-vocabulary two-stage detector around a frozen CLIP ViT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.models import TwoStageDetector
from mmengine.registry import MODELS
from torch import Tensor, nn

from refineclip.encoders.finite import check_finite
from refineclip.encoders.refiner_clip import RefinerCLIP
from refineclip.encoders.weights.checkpoint_guard import require_whole_checkpoint


@MODELS.register_module()
class FViT(TwoStageDetector):
    """Frozen RefinerCLIP, stems, FPN, RPN and a box head that classifies by text.

    Facts: CLIPSelf, arXiv 2310.01403, and its published configs. One forward of the tower serves
    both sides: the taps feed the detector, and the last tap, through the tower's final norm and
    head, is the CLIP map that the scores ask at test time.

    Args:
        backbone: :class:`~refineclip.encoders.refiner_clip.RefinerCLIP` with ``out_indices`` of
            four blocks, the last one of the tower among them, and no ``out_strides`` or
            ``out_channels``.
        neck: ``[UpsampleStem, FPN]``, or another that takes four maps of the patch's stride.
        rpn_head: mmdet's; strides 4 to 64 for patch 16, 3.5 to 56 for patch 14.
        roi_head: :class:`~refineclip.detection.fvit_roi_head.FViTRoIHead`.
        kwargs: Further arguments of :class:`mmdet.models.TwoStageDetector`. The preprocessor pads
            to a multiple of twice the patch, and normalises: F-ViT with ImageNet's mean and std,
            CLIM with CLIP's.

    Raises:
        ValueError: Parts that do not fit each other, each in one sentence.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        neck: Any,
        rpn_head: dict[str, Any],
        roi_head: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(
            backbone=backbone, neck=neck, rpn_head=rpn_head, roi_head=roi_head, **kwargs
        )
        require_whole_checkpoint(self)
        # mmdet makes anchors in the type of what the head says: half precision would round boxes to
        # pixels, and mmcv's NMS knows no bfloat16.
        self.rpn_head.register_forward_hook(_in_float32)
        check_backbone(self.backbone)
        patch = self.backbone.visual.patch_size
        _check_strides('rpn_head.anchor_generator.strides', self._anchor_strides(), patch)
        extractor = self.roi_head.bbox_roi_extractor
        _check_strides('bbox_roi_extractor.featmap_strides', extractor.featmap_strides, patch)
        divisor = getattr(self.data_preprocessor, 'pad_size_divisor', 2 * patch)
        if divisor % (2 * patch):
            raise ValueError(
                f'data_preprocessor.pad_size_divisor: expected a multiple of {2 * patch}, twice '
                f'the patch, got {divisor}'
            )
        classifier = self.roi_head.bbox_head.fc_cls
        if classifier.embed_dim != self.backbone.embed_dim:
            raise ValueError(
                f'expected text embeddings of width {self.backbone.embed_dim}, which is that of '
                f'the image tower, got {classifier.embed_dim}; take the text tower of the same CLIP'
            )

    def _anchor_strides(self) -> list[float]:
        return [stride[0] for stride in self.rpn_head.prior_generator.strides]

    def set_vocabulary(
        self, names: Sequence[str] | str | Path, classes: Sequence[str] | None = None
    ) -> None:
        """Detect other classes from now on; no weight changes.

        Args:
            names: Class names, synonyms of one class separated by ``;``; or a file of them.
            classes: What the names stand for, where they are other names of known classes: these
                then decide which are base. None: the names themselves do.

        Raises:
            ValueError: A name is empty or doubled, or the given embeddings lack it.
        """
        self.roi_head.bbox_head.set_vocabulary(names, classes)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return self.roi_head.bbox_head.fc_cls.names

    def score_settings(self) -> dict[str, Any]:
        """What a score depends on besides weights and images, for the record beside it."""
        preprocessor = self.data_preprocessor
        return dict(
            self.roi_head.score_settings(),
            dense_mode=self.backbone.dense_mode,
            image_mean=preprocessor.mean.flatten().tolist(),
            image_std=preprocessor.std.flatten().tolist(),
        )

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[Any], rescale: bool = True
    ) -> list[Any]:
        """Detect.

        Args:
            batch_inputs: Normalised images (B, 3, H, W), H and W multiples of twice the patch.
            batch_data_samples: Their ``DetDataSample``; ``proposals`` there replace the RPN's.
            rescale: Return boxes in pixels of the original images.

        Returns:
            The samples with ``pred_instances``.

        Raises:
            ValueError: If scores or boxes are not finite before they are sorted out.
        """
        metas = [sample.metainfo for sample in batch_data_samples]
        sources = [meta.get('img_path') or 'an image' for meta in metas]
        taps = self.backbone(batch_inputs)
        levels = self.neck(taps)
        if batch_data_samples[0].get('proposals', None) is None:
            objectness, deltas = self.rpn_head(levels)
            # A box of NaN is dropped further on, as if nothing were there.
            for maps in (*objectness, *deltas):
                check_finite(maps, 'proposals', sources)
            proposals = self.rpn_head.predict_by_feat(objectness, deltas, batch_img_metas=metas)
        else:
            proposals = [sample.proposals for sample in batch_data_samples]
        results = self.roi_head.predict(
            (*levels, self.backbone.project_map(taps[-1])),
            proposals,
            batch_data_samples,
            rescale=rescale,
        )
        return self.add_pred_to_datasample(batch_data_samples, results)


def _in_float32(
    module: nn.Module, args: Any, output: tuple[Sequence[Tensor], ...]
) -> tuple[list[Tensor], ...]:
    return tuple([level.float() for level in levels] for levels in output)


def check_backbone(backbone: nn.Module) -> None:
    """Refuse a backbone without four taps of one stride that end at the last block.

    Raises:
        TypeError: It is no RefinerCLIP.
        ValueError: Its taps or strides are others.
    """
    if not isinstance(backbone, RefinerCLIP):
        raise TypeError(f'backbone: expected a RefinerCLIP, got {type(backbone).__name__}')
    last = backbone.visual.num_blocks - 1
    indices = backbone.out_indices
    if indices is None or len(indices) != 4 or indices[-1] != last:
        raise ValueError(
            f'backbone.out_indices: expected four blocks, the last of them {last}, got {indices}'
        )
    if backbone.pyramid.scales is not None or backbone.pyramid.projections is not None:
        raise ValueError(
            'backbone: expected no out_strides and no out_channels, which the neck is there for'
        )


def _check_strides(key: str, strides: Sequence[float], patch: int) -> None:
    expected = [patch * scale for scale in (0.25, 0.5, 1, 2, 4)][: len(strides)]
    if [float(stride) for stride in strides] != expected:
        raise ValueError(
            f'{key}: expected {expected} for a tower with patch {patch}, got {list(strides)}'
        )
