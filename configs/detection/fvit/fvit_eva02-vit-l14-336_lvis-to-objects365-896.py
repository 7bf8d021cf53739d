# The OV-LVIS detector on EVA-02-CLIP L/14-336, tested on Objects365 v1 without its masks. One share
# of the CLIP map for all classes, both temperatures fixed (F-ViT's published transfer configs):
# python tools/test.py THIS work_dirs/fvit-mask_eva02-vit-l14-336_8xb8-amp-48e_ov-lvis-896/LAST.pth
_base_ = [
    '../../_base_/models/fvit_l14.py',
    '../../_base_/models/fvit_ov-lvis_parts.py',
    '../../_base_/datasets/transfer-objects365_detection.py',
    '../_base_/runtime.py',
]

model = dict(
    rpn_head=_base_.ov_lvis_rpn_head,
    roi_head=dict(
        score_fusion=dict(alpha=0.3, beta=0.3, vlm_temperature=120.0, det_temperature=50.0),
        bbox_head=dict(classifier=dict(split='objects365'), background_weight=0.9),
    ),
    test_cfg=_base_.ov_lvis_test_cfg,
)
