# What both stages share on the microworld: 384 drawn images of 128 px, 8 a step, on a CPU, made by
# `python -m refineclip microworld data/microworld`. Sizes and settings are those of this project's
# pilot of an earlier world, fixed before this one was distilled; none is stated in the paper.
_base_ = '../../_base_/iter_runtime.py'

data_preprocessor = dict(
    type='RegionPreprocessor',
    # Mean .5 and standard deviation .25 of every channel, as its CLIP was trained.
    mean=[127.5, 127.5, 127.5],
    std=[63.75, 63.75, 63.75],
    image_size=128,
    crop_size=64,
    image_resize='squash',
    crop_resize='squash',
)

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='InfiniteEpochSampler', shuffle=True),
    collate_fn=dict(type='collate_regions'),
    dataset=dict(type='RegionImageFolder', data_root='data/microworld/train'),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4, weight_decay=0.05),
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
default_hooks = dict(checkpoint=dict(interval=300, save_optimizer=False))
