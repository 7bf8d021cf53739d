# PASCAL VOC 2012 val; what Context names beside the 20 objects is background: 1,449 images. Labels
# are those of SegmentationClassAug.zip, which CAT-Seg's prepare_voc.py reads.
# Shorter side; SCLIP's protocol (arXiv 2312.01597, released configs).
test_pipeline = [
    dict(type='LoadUprightImage'),
    dict(type='Resize', scale=(2048, 336), keep_ratio=True),
    # After the resizing, so that labels keep their size.
    dict(type='LoadSegLabels', num_labels=21),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='PascalVOC20bDataset',
        data_root='data/VOCdevkit/VOC2012',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
        ann_file='ImageSets/Segmentation/val.txt',
        pipeline=test_pipeline,
    ),
)
# CAT-Seg's table averages over the classes that are in the labels.
test_evaluator = dict(
    type='VocabularyIoUMetric', iou_metrics=['mIoU'], average='labels', num_classes=21
)
test_cfg = dict(type='TestLoop')
