# PASCAL VOC 2012 val without its background: 1,449 images as they are unpacked.
# Shorter side; SCLIP's protocol (arXiv 2312.01597, released configs).
test_pipeline = [
    dict(type='LoadUprightImage'),
    dict(type='Resize', scale=(2048, 336), keep_ratio=True),
    # After the resizing, so that labels keep their size.
    dict(type='LoadSegLabels', num_labels=20),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='PascalVOC20Dataset',
        data_root='data/VOCdevkit/VOC2012',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/val.txt',
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='VocabularyIoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='TestLoop')
