# Stage 1 on the microworld: a Refiner of three of the five blocks, 200 steps.
_base_ = './_base_/microworld-dense.py'

model = dict(
    type='RefinerTraining',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='RefinerCLIP',
        model='microworld-clip',
        pretrained='shipped',
        refiner=dict(num_blocks=3),
    ),
    # The pilot's safe choice in this kind of world.
    loss=dict(type='RefineLoss', kind='cosine', roi_size=8),
)
train_dataloader = dict(
    dataset=dict(
        region_sampler=dict(type='RandomCropRegions', groups=[dict(num=4, area=(0.1, 0.5))])
    )
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=200)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=20),
]
default_hooks = dict(checkpoint=dict(interval=200))
