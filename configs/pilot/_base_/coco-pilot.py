# What all runs of the pilot share: 128 photos without labels, 8 a step, on a CPU. The settings are
# those of the pilot on real photos; none is stated in the paper.
custom_imports = dict(
    imports=['refineclip.encoders', 'refineclip.datasets', 'refineclip.distill'],
    allow_failed_imports=False,
)

data_root = 'data/coco'
image_list = 'data/coco/pilot_images.txt'
image_size = 224
base_lr = 1e-4
warmup_iters = 10
num_iters = 128

data_preprocessor = dict(
    type='RegionPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    image_size=image_size,
    crop_size=image_size,
    image_resize='squash',
    crop_resize='squash',
)

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    collate_fn=dict(type='collate_regions'),
    sampler=dict(type='EpochSampler', shuffle=True),
    dataset=dict(
        type='RegionImageFolder',
        data_root=data_root,
        ann_file=image_list,
        # Regions are the same in every epoch and for both seeds, so that crops are encoded once.
        fixed_regions=True,
        seed=0,
        region_sampler=dict(type='RandomCropRegions', groups=[dict(num=8, area=(0.2, 0.5))]),
    ),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=base_lr, weight_decay=0.05),
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
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=8)

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=8),
    # Only the end of a run is of interest; all of it takes minutes.
    checkpoint=dict(
        type='AtomicCheckpointHook', interval=1000, save_last=True, save_optimizer=False
    ),
)
default_scope = None
randomness = dict(seed=0)
