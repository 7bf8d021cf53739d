"""F-ViT's box head: mmdet's, with a text classifier and scores that are fused before NMS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.models import ConvFCBBoxHead
from mmdet.models.layers import multiclass_nms
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from .text_classifier import TextClassifier


@MODELS.register_module()
class FViTBBoxHead(ConvFCBBoxHead):
    """4 convolutions, 2 linear layers, a :class:`TextClassifier` and class-agnostic regression.

    Training is a softmax over the base classes and the background: classes that are not base are
    left out of it. The class number and the order of labels are those of the vocabulary.

    Args:
        classifier: Arguments of :class:`TextClassifier` but ``in_features``.
        background_weight: Weight of the background in the classification loss. F-ViT: 0.6 on
            OV-COCO, 0.9 on OV-LVIS.
        fc_out_channels: Width of the linear layers; F-ViT's is that of the text embeddings.
        kwargs: Arguments of :class:`mmdet.models.ConvFCBBoxHead`. ``reg_class_agnostic`` is True.
    """

    def __init__(
        self,
        classifier: dict[str, Any],
        background_weight: float = 1.0,
        num_shared_convs: int = 4,
        num_shared_fcs: int = 2,
        fc_out_channels: int = 512,
        **kwargs: Any,
    ) -> None:
        fc_cls = TextClassifier(in_features=fc_out_channels, **classifier)
        # The parents would build a predictor twice, and with it a text tower; ours comes after.
        super().__init__(
            num_shared_convs=num_shared_convs,
            num_shared_fcs=num_shared_fcs,
            fc_out_channels=fc_out_channels,
            num_classes=len(fc_cls.names),
            reg_class_agnostic=True,
            with_cls=False,
            **kwargs,
        )
        self.with_cls = True
        self.fc_cls = fc_cls
        self.background_weight = background_weight
        self._weigh_classes()

    def set_vocabulary(
        self, names: Sequence[str] | str | Path, classes: Sequence[str] | None = None
    ) -> None:
        """Detect other classes from now on, see :meth:`TextClassifier.set_vocabulary`."""
        self.fc_cls.set_vocabulary(names, classes)
        self.num_classes = len(self.fc_cls.names)
        self._weigh_classes()

    def _weigh_classes(self) -> None:
        self.loss_cls.class_weight = [1.0] * self.num_classes + [self.background_weight]

    def loss(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        rois: Tensor,
        labels: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """The parent's losses, with the logits of held-out classes at minus infinity.

        Args:
            cls_score: Logits (R, C + 1).
            bbox_pred: Box deltas (R, 4).
            rois: (R, 5), see the parent.
            labels: (R,) class of each box, C is the background.
            args: Further arguments of the parent.
            kwargs: Further arguments of the parent.

        Raises:
            ValueError: A box of a held-out class is among the annotations.
        """
        held_out = torch.cat([~self.fc_cls.is_base, self.fc_cls.is_base.new_zeros(1)])
        if held_out[labels].any():
            found = labels[held_out[labels]].unique().tolist()
            raise ValueError(
                'expected training annotations of base classes only, got boxes of held-out ones: '
                f'{[self.fc_cls.names[index] for index in found[:5]]}; train on the annotation '
                'file that tools/prepare makes, or name them in base_names'
            )
        cls_score = cls_score.masked_fill(held_out, -torch.inf)
        return super().loss(cls_score, bbox_pred, rois, labels, *args, **kwargs)

    def _predict_by_feat_single(
        self,
        roi: Tensor,
        cls_score: Tensor,
        bbox_pred: Tensor,
        img_meta: dict[str, Any],
        rescale: bool = False,
        rcnn_test_cfg: Any = None,
    ) -> InstanceData:
        """The parent's boxes with ``cls_score`` as they are: fused scores (R, C + 1), no logits."""
        if len(roi) == 0:
            return super()._predict_by_feat_single(
                roi, cls_score, bbox_pred, img_meta, rescale, rcnn_test_cfg
            )
        # Without a test config the parent decodes, and neither thresholds nor suppresses.
        decoded = super()._predict_by_feat_single(roi, cls_score, bbox_pred, img_meta, rescale)
        results = InstanceData()
        boxes, results.labels = multiclass_nms(
            decoded.bboxes,
            cls_score,
            rcnn_test_cfg.score_thr,
            rcnn_test_cfg.nms,
            rcnn_test_cfg.max_per_img,
        )
        results.bboxes, results.scores = boxes[:, :4], boxes[:, 4]
        return results
