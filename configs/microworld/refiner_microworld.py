# Stage 1 on the microworld: a Refiner of three of the five blocks, 200 steps of 8 images.
_base_ = ['../_base_/iter_runtime.py', './_base_/microworld.py']

num_iters = 200
warmup_iters = 20
base_lr = 5e-4

model = dict(
    type='RefinerTraining',
    data_preprocessor=_base_.data_preprocessor,
    encoder={**_base_.encoder, 'refiner': dict(num_blocks=3)},
    loss=dict(type='RefineLoss', kind='cosine', roi_size=8),
)
train_dataloader = dict(
    dataset=dict(
        region_sampler=dict(type='RandomCropRegions', groups=[dict(num=4, area=(0.1, 0.5))])
    )
)
train_cfg = dict(max_iters=num_iters)
optim_wrapper = dict(optimizer=dict(lr=base_lr))
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
