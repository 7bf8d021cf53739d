# What OV-LVIS changes in F-ViT: norms in the RPN, other fusion and weights, masks, more boxes, and
# the second stage gives every object its best box.
# Variables, which the configs lay over fvit.py and fvit_l14.py alike.
ov_lvis_rpn_head = dict(type='NormedRPNHead', norm_cfg=dict(type='SyncBN', requires_grad=True))
ov_lvis_bbox_head = dict(classifier=dict(split='ov-lvis'), background_weight=0.9)
mask_roi_layer = dict(type='RoIAlign', output_size=14, sampling_ratio=0)
mask_head = dict(
    type='FCNMaskHead',
    num_convs=4,
    in_channels=256,
    conv_out_channels=256,
    class_agnostic=True,
    num_classes=1,  # not read where masks are class-agnostic
    # Not stated; a norm in every head is what mmdet's configs with a 2-conv RPN have.
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
)
ov_lvis_train_cfg = dict(rcnn=dict(assigner=dict(match_low_quality=True)))
ov_lvis_test_cfg = dict(
    rcnn=dict(score_thr=1e-4, nms=dict(type='nms', iou_threshold=0.5), max_per_img=300)
)
