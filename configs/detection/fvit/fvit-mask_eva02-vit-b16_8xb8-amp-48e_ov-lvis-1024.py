# F-ViT's OV-LVIS detector with masks on EVA-02-CLIP B/16.
_base_ = [
    '../../_base_/models/fvit.py',
    '../../_base_/models/fvit_ov-lvis_parts.py',
    '../../_base_/datasets/ov-lvis_detection.py',
    '../_base_/schedule_48e.py',
    '../_base_/runtime.py',
]

model = dict(
    data_preprocessor=dict(pad_size_divisor=1024),
    rpn_head=_base_.ov_lvis_rpn_head,
    roi_head=dict(
        score_fusion=dict(alpha=0.1, beta=0.6, vlm_temperature=50.0),
        bbox_head=_base_.ov_lvis_bbox_head,
        mask_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=_base_.mask_roi_layer,
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        mask_head=_base_.mask_head,
    ),
    train_cfg=_base_.ov_lvis_train_cfg,
    test_cfg=_base_.ov_lvis_test_cfg,
)
