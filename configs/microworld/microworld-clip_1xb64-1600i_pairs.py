# Pre-training of the microworld's CLIP: both towers from random weights, drawn images, captions.
# Everything here is the microworld's own; nothing comes from the paper.
_base_ = ['../_base_/iter_runtime.py']

num_iters = 1600
warmup_iters = 80

custom_imports = dict(
    imports=[
        'refineclip.datasets.microworld',
        'refineclip.distill.contrastive_pretraining',
        'refineclip.distill',
    ],
    allow_failed_imports=False,
)
model = dict(
    type='ContrastivePretraining',
    model='microworld-clip',
    # The mean and std of refineclip/assets/microworld-clip/open_clip_config.json, scale 0..255.
    data_preprocessor=dict(type='ImgDataPreprocessor', mean=[127.5] * 3, std=[63.75] * 3),
)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    # 16,384 pairs, each seen 6.25 times; other images than those of train and val, by their split.
    dataset=dict(type='MicroworldPairs', num_images=16384, seed=0),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    # Decay on matrices only.
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys=dict(logit_scale=dict(decay_mult=0.0))
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=warmup_iters),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=warmup_iters,
        end=num_iters,
        T_max=num_iters - warmup_iters,
        eta_min=0.0,
    ),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=num_iters)

default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=100, max_keep_ckpts=2))
# Nothing is read from disk, so no image can be bad.
custom_hooks = []
# The seed of weights and order. Seeds 0, 1 and 2 were trained; 0 is shipped.
randomness = dict(seed=0, deterministic=True)
