# OV-COCO in the convention of 80 labels (ovdet, CLIM): trained on boxes of 48 base classes, base
# and novel classes evaluated apart. Scores are close to those of ov-coco_detection.py, but not
# comparable. Made by `python tools/prepare/ov_coco.py data/coco --categories 80`. With it goes
# `model.roi_head.bbox_head.classifier.split='ov-coco-80'`.
_base_ = './ov-coco_detection.py'
data_root = 'data/coco/'

train_dataloader = dict(
    dataset=dict(split='ov-coco-80', ann_file='zero-shot/instances_train2017_base.json')
)
val_dataloader = dict(
    dataset=dict(split='ov-coco-80', ann_file='annotations/instances_val2017.json')
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(
        type='CocoMetric',
        ann_file=data_root + f'zero-shot/instances_val2017_{part}.json',
        metric='bbox',
        prefix=part,
    )
    for part in ('base', 'novel')
]
test_evaluator = val_evaluator
