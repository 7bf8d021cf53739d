# F-ViT's OV-LVIS detector with masks on EVA-02-CLIP L/14-336. beta: published 0.4, with the remark
# that 0.6 or 0.8 raise the AP of rare classes.
_base_ = [
    '../../_base_/models/fvit_l14.py',
    '../../_base_/models/fvit_ov-lvis_parts.py',
    '../../_base_/datasets/ov-lvis_detection-896.py',
    '../_base_/schedule_48e.py',
    '../_base_/runtime.py',
]

model = dict(
    rpn_head=_base_.ov_lvis_rpn_head,
    roi_head=dict(
        score_fusion=dict(alpha=0.1, beta=0.4, vlm_temperature=50.0),
        bbox_head=_base_.ov_lvis_bbox_head,
        mask_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=_base_.mask_roi_layer,
            out_channels=256,
            featmap_strides=[3.5, 7, 14, 28],
        ),
        mask_head=_base_.mask_head,
    ),
    train_cfg=_base_.ov_lvis_train_cfg,
    test_cfg=_base_.ov_lvis_test_cfg,
)
