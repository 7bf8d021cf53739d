# PASCAL-Context val, 459 classes, 16 bits: 5,105 images, tools/prepare/pascal_context_459.py.
# Shorter side; SCLIP's protocol (arXiv 2312.01597, released configs).
test_pipeline = [
    dict(type='LoadUprightImage'),
    dict(type='Resize', scale=(2048, 336), keep_ratio=True),
    # After the resizing, so that labels keep their size.
    dict(type='LoadSegLabels', num_labels=459, ignore_index=65535),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='PascalContext459Dataset',
        data_root='data/VOCdevkit/VOC2010',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='annotations_detectron2/pc459_val'),
        pipeline=test_pipeline,
    ),
)
# CAT-Seg's table averages over the classes that are in the labels.
test_evaluator = dict(
    type='VocabularyIoUMetric', iou_metrics=['mIoU'], average='labels', ignore_index=65535
)
test_cfg = dict(type='TestLoop')
