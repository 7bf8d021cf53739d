# Stage 1 for a folder of any size: 1000 steps (not stated in the paper; our pilot took 128 for 128
# photos, UniRefiner about 625 for 5,000).
_base_ = './refiner_1e.py'

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=1000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=10),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=10),
]
