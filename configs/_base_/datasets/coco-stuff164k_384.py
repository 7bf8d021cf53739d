# COCO-Stuff, 171 classes, as CAT-Seg trains on it (arXiv 2303.11797, released configs).
data_root = 'data/coco_stuff164k'
crop_size = (384, 384)

train_pipeline = [
    dict(type='LoadUprightImage'),
    dict(type='LoadSegLabels', num_labels=171),
    # Pillow's resizing smooths when it shrinks, OpenCV's does not; the released code uses Pillow.
    # The longest side is detectron2's default.
    dict(type='Resize', scale=(1333, 384), keep_ratio=True, backend='pillow'),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=1.0),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadUprightImage'),
    dict(type='Resize', scale=(2560, 640), keep_ratio=True, backend='pillow'),
    # After the resizing, so that labels keep their size. mmseg's inference drops it by its name.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='COCOStuffDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/train2017', seg_map_path='annotations/train2017'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='COCOStuffDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
# The mean over the classes in the labels, as the released code's evaluator.
val_evaluator = dict(type='VocabularyIoUMetric', iou_metrics=['mIoU'], average='labels')
test_evaluator = val_evaluator
