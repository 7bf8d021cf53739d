"""mmdet's RPN head with a norm after each convolution."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import ConvModule
from mmdet.models import RPNHead
from mmengine.registry import MODELS
from torch import nn


@MODELS.register_module()
class NormedRPNHead(RPNHead):
    """:class:`mmdet.models.RPNHead` with a norm; F-ViT's OV-LVIS detectors have one.

    Args:
        norm_cfg: Norm after each of the ``num_convs`` convolutions.
        kwargs: Arguments of ``RPNHead``.
    """

    def __init__(self, norm_cfg: dict, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rpn_conv = nn.Sequential(
            *(
                ConvModule(
                    self.feat_channels if index else self.in_channels,
                    self.feat_channels,
                    3,
                    padding=1,
                    norm_cfg=norm_cfg,
                    inplace=False,  # as RPNHead: the level's map is read again in the backward pass
                )
                for index in range(self.num_convs)
            )
        )
