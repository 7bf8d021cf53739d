# What both stages on the microworld share. All numbers are those of a pilot on an earlier version
# of this world, frozen before this version was distilled; none is stated in the paper.
num_iters = 300
warmup_iters = 20
base_lr = 3e-4

data_preprocessor = dict(
    type='RegionPreprocessor',
    # refineclip/assets/microworld-clip/open_clip_config.json, times 255.
    mean=[127.5] * 3,
    std=[63.75] * 3,
    # Dense views as they are written; crops at the native size of the CLIP.
    image_size=128,
    crop_size=64,
    image_resize='squash',
    crop_resize='squash',
)
encoder = dict(
    type='RefinerCLIP',
    model='microworld-clip',
    pretrained='shipped',
    # CLIPSelf's dense map.
    dense_mode='value',
)

# `python -m refineclip microworld data/microworld` writes it: 384 images to train.
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    collate_fn=dict(type='collate_regions'),
    sampler=dict(type='InfiniteEpochSampler'),
    dataset=dict(type='RegionImageFolder', data_root='data/microworld/train'),
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=num_iters)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=base_lr, weight_decay=0.05),
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=warmup_iters),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=warmup_iters,
        end=num_iters,
        T_max=num_iters - warmup_iters,
        eta_min=0.0,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
