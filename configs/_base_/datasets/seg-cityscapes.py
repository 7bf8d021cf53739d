# Cityscapes val: 19 classes, 500 images, tools/prepare/cityscapes.py.
# SCLIP evaluates Cityscapes at 560 px (arXiv 2312.01597, released cfg_city_scapes.py).
test_pipeline = [
    dict(type='LoadUprightImage'),
    dict(type='Resize', scale=(2048, 560), keep_ratio=True),
    # After the resizing, so that labels keep their size.
    dict(type='LoadSegLabels', num_labels=19),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CityscapesDataset',
        data_root='data/cityscapes',
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='VocabularyIoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='TestLoop')
