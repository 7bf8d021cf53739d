# PASCAL-Context val, 59 classes and background: 5,105 images, tools/prepare/pascal_context_59.py.
# Shorter side; SCLIP's protocol (arXiv 2312.01597, released configs).
test_pipeline = [
    dict(type='LoadUprightImage'),
    dict(type='Resize', scale=(2048, 336), keep_ratio=True),
    # After the resizing, so that labels keep their size.
    dict(type='LoadSegLabels', num_labels=60),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='PascalContextDataset',
        data_root='data/VOCdevkit/VOC2010',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'),
        ann_file='ImageSets/SegmentationContext/val.txt',
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='VocabularyIoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='TestLoop')
