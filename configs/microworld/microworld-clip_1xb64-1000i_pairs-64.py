# Second part of the pre-training of the microworld's CLIP: images at their own size.
_base_ = ['./_base_/microworld-clip.py']

num_iters = 1000
warmup_iters = 50

load_from = 'work_dirs/microworld-clip_1xb256-1500i_pairs-32/iter_1500.pth'
# Every pair is drawn for one step.
train_dataloader = dict(batch_size=64, dataset=dict(num_images=64000))
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=warmup_iters),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=warmup_iters,
        end=num_iters,
        T_max=num_iters - warmup_iters,
        eta_min_ratio=0.02,
    ),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=num_iters)
