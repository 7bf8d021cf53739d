# COCO-Object val: 80 objects and background, 5,000 images, tools/prepare/coco_object.py.
# Shorter side; SCLIP's protocol (arXiv 2312.01597, released configs).
test_pipeline = [
    dict(type='LoadUprightImage'),
    dict(type='Resize', scale=(2048, 336), keep_ratio=True),
    # After the resizing, so that labels keep their size.
    dict(type='LoadSegLabels', num_labels=81),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='COCOObjectDataset',
        data_root='data/coco_stuff164k',
        data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017'),
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='VocabularyIoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='TestLoop')
