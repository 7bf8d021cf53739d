# The drawn world of this package and its tiny CLIP; it says nothing about real images.
# `python -m refineclip microworld data/microworld` draws the data.
_base_ = '../../_base_/text-seg_runtime.py'

model = dict(
    type='TextSegmentor',
    backbone=dict(type='RefinerCLIP', model='microworld-clip', pretrained='shipped'),
    text=dict(model='microworld-clip', pretrained='shipped', templates=['a {}']),
    # Views of 128 px, twice the side that the tower was trained with.
    test_cfg=dict(mode='whole'),
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadSegLabels'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='MicroworldSegDataset',
        data_root='data/microworld',
        data_prefix=dict(img_path='val', seg_map_path='annotations/semantic_val'),
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='VocabularyIoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='TestLoop')
