"""mmdet's RoI head, whose scores at test time also ask the frozen CLIP map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from mmdet.models import StandardRoIHead
from mmdet.structures.bbox import bbox2roi
from mmengine.registry import MODELS
from torch import Tensor

from refineclip.encoders.finite import check_finite

from .score_fusion import cosine_logits, fuse_scores, pool_vlm_map


@dataclass(frozen=True)
class ScoreFusion:
    """How the two scores of a box become one.

    Attributes:
        alpha: Share of the CLIP map for base classes and background, in [0, 1].
        beta: Share of the CLIP map for novel classes, in [0, 1].
        vlm_temperature: Temperature of the CLIP map's softmax.
        det_temperature: Temperature of the detector's softmax in place of the learned one; None
            keeps that.
    """

    alpha: float = 0.1
    beta: float = 0.8
    vlm_temperature: float = 75.0
    det_temperature: float | None = None

    def __post_init__(self) -> None:
        for name in ('alpha', 'beta'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f'score_fusion.{name}: expected a share in [0, 1], got {getattr(self, name)}'
                )


def full_precision(levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Levels in float32, for RoIAlign.

    mmcv's operator knows no bfloat16, and mmdet gives boxes the type of the levels: float16 would
    move them by up to half a pixel of 1024.
    """
    return tuple(level.float() for level in levels)


@MODELS.register_module()
class FViTRoIHead(StandardRoIHead):
    """:class:`mmdet.models.StandardRoIHead` that fuses detection and CLIP scores at test time.

    Args:
        score_fusion: ``dict(alpha, beta, vlm_temperature, det_temperature)``; the defaults are
            F-ViT's of OV-COCO. A refined backbone may want another ``vlm_temperature``: DeCLIP
            retunes nothing else (45 on OV-COCO, 90 on OV-LVIS).
        kwargs: Arguments of ``StandardRoIHead``; ``bbox_head`` is a ``FViTBBoxHead``.
    """

    def __init__(self, score_fusion: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score_fusion = ScoreFusion(**(score_fusion or {}))

    def _bbox_forward(self, x: Sequence[Tensor], rois: Tensor) -> dict[str, Tensor]:
        return super()._bbox_forward(full_precision(x), rois)

    def _mask_forward(self, x: Sequence[Tensor], *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        return super()._mask_forward(full_precision(x), *args, **kwargs)

    def predict_bbox(
        self,
        x: Sequence[Tensor],
        batch_img_metas: list[dict[str, Any]],
        rpn_results_list: list[Any],
        rcnn_test_cfg: Any,
        rescale: bool = False,
    ) -> list[Any]:
        """Boxes, labels and fused scores of every image.

        Args:
            x: The levels of the neck, and after them the CLIP map (B, D, h, w).
            batch_img_metas: With ``batch_input_shape``, which the data preprocessor sets.
            rpn_results_list: Proposals of every image, pixels of the padded input.
            rcnn_test_cfg: Threshold, NMS and number of boxes.
            rescale: Return boxes in the original image.
        """
        *levels, vlm_map = x
        proposals = [result.bboxes for result in rpn_results_list]
        rois = bbox2roi(proposals)
        if len(rois) == 0:
            return super().predict_bbox(
                levels, batch_img_metas, rpn_results_list, rcnn_test_cfg, rescale
            )
        found = self._bbox_forward(levels, rois)
        stride = batch_img_metas[0]['batch_input_shape'][1] / vlm_map.shape[-1]
        scores = self.scores(found['cls_score'], pool_vlm_map(vlm_map, rois, stride))
        counts = [len(boxes) for boxes in proposals]
        names = [meta.get('img_path') or 'an image' for meta in batch_img_metas]
        sources = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
        check_finite(scores, 'scores', sources)
        check_finite(found['bbox_pred'], 'boxes', sources)
        return self.bbox_head.predict_by_feat(
            rois=rois.split(counts),
            cls_scores=scores.split(counts),
            bbox_preds=found['bbox_pred'].split(counts),
            batch_img_metas=batch_img_metas,
            rcnn_test_cfg=rcnn_test_cfg,
            rescale=rescale,
        )

    def scores(self, logits: Tensor, embeddings: Tensor) -> Tensor:
        """Fused scores (R, C + 1) of detection logits (R, C + 1) and CLIP embeddings (R, D)."""
        fusion, classifier = self.score_fusion, self.bbox_head.fc_cls
        if fusion.det_temperature is not None:
            logits = logits * (fusion.det_temperature / classifier.temperature)
        vlm = cosine_logits(embeddings, classifier.embeddings, fusion.vlm_temperature)
        return fuse_scores(
            logits.softmax(dim=1),
            vlm.softmax(dim=1),
            classifier.is_base,
            fusion.alpha,
            fusion.beta,
        )

    @torch.no_grad()
    def score_settings(self) -> dict[str, float]:
        """What a score depends on besides the weights."""
        settings = asdict(self.score_fusion)
        if settings['det_temperature'] is None:
            settings['det_temperature'] = float(self.bbox_head.fc_cls.temperature)
        return dict(settings, background_weight=self.bbox_head.background_weight)
