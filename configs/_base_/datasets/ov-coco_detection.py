# OV-COCO at 640 x 640: trained on boxes of 48 base classes, tested on 65. Made by
# `python tools/prepare/ov_coco.py data/coco`. Numbers: F-ViT's published configs, where no other
# source is named. A config names `refineclip.detection` in its custom_imports.
data_root = 'data/coco/'
image_size = (640, 640)

# Padding to the square is the data preprocessor's (pad_size_divisor=640): after normalisation, as
# in the published pipeline.
train_pipeline = [
    dict(type='LoadUprightImage'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_type='absolute_range',
        crop_size=image_size,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(0.01, 0.01)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadUprightImage'),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

train_dataloader = dict(
    batch_size=8,  # per GPU, on 8 GPUs
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='OVCocoDataset',
        split='ov-coco',
        data_root=data_root,
        ann_file='zero-shot/instances_train2017_seen_2_65_cat.json',
        data_prefix=dict(img='train2017/'),
        # mmdet 2's defaults, which the published training had.
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='OVCocoDataset',
        split='ov-coco',
        data_root=data_root,
        ann_file='zero-shot/instances_val2017_all_2.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='FastOVCocoMetric',
    ann_file=data_root + 'zero-shot/instances_val2017_all_2.json',
    metric='bbox',
)
test_evaluator = val_evaluator
