# Last part of the pre-training of the microworld's CLIP: views of the size and kind that dense maps
# are taken of, so that no refined encoder gains by resolution alone.
_base_ = ['./_base_/microworld-clip.py']

num_iters = 300
warmup_iters = 20

load_from = 'work_dirs/microworld-clip_1xb64-1000i_pairs-64/iter_1000.pth'
# Every pair is drawn for one step.
train_dataloader = dict(batch_size=32, dataset=dict(num_images=9600, view='dense'))
optim_wrapper = dict(optimizer=dict(lr=0.004))
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
