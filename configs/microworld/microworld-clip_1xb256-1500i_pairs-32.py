# First part of the pre-training of the microworld's CLIP: images of half the side, from random
# weights. Four times the pairs in the same time, and most of what there is to learn.
_base_ = ['./_base_/microworld-clip.py']

num_iters = 1500
warmup_iters = 100

# 65,536 pairs, each seen 6 times.
train_dataloader = dict(batch_size=256, dataset=dict(num_images=65536, reduce=2))
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
