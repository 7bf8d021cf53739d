# A small CAT-Seg on the drawn world: trained without the novel kinds, asked about all. It says
# nothing about real images. `python -m refineclip microworld data/microworld` draws the data.
# Sizes are chosen for a CPU: the aggregator is a quarter as wide as the published one.
_base_ = [
    '../../_base_/models/cat-seg.py',
    '../../_base_/schedules/cat-seg_80k.py',
    '../../_base_/cat-seg_runtime.py',
]
num_iters = 300
image_size = (128, 128)

model = dict(
    # refineclip/assets/microworld-clip/open_clip_config.json, times 255.
    data_preprocessor=dict(mean=[127.5] * 3, std=[63.75] * 3, size=image_size),
    backbone=dict(
        model='microworld-clip', pretrained='shipped', model_kwargs=None, out_indices=(1, 2, 4)
    ),
    text_encoder=dict(model='microworld-clip', pretrained='shipped', prompt='a {}'),
    input_size=image_size,
    decode_head=dict(
        guidance_channels=(32, 16),
        aggregator=dict(
            embed_dims=32,
            guidance_dims=32,
            # Four windows on the grid of 16 x 16.
            window_size=8,
            decoder_channels=(32, 16),
            decoder_guidance_channels=(8, 4),
        ),
        # Novel kinds are in the images and without a label: they must not be negatives.
        loss_decode=dict(ignored_as_negative=False),
    ),
    # The published proportions: 640 : 384 : 256.
    test_cfg=dict(size=(208, 208), window=128, stride=80),
)

train_pipeline = [
    dict(type='LoadUprightImage'),
    dict(type='LoadSegLabels'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadUprightImage'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(type='MicroworldSegDataset', data_root='data/microworld')
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **dataset,
        base_only=True,
        pipeline=train_pipeline,
        data_prefix=dict(img_path='train', seg_map_path='annotations/semantic_train'),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        pipeline=test_pipeline,
        data_prefix=dict(img_path='val', seg_map_path='annotations/semantic_val'),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

train_cfg = dict(max_iters=num_iters, val_interval=num_iters)
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    # The published 0.01 belongs to 80,000 steps; few steps need longer ones.
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=num_iters, eta_min=0.0, by_epoch=False)]
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(checkpoint=dict(interval=num_iters), logger=dict(interval=10))
