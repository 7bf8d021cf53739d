# Pre-training of the microworld's CLIP, what its three parts share: drawn images, captions.
# Everything here is the microworld's own; nothing comes from the paper.
_base_ = ['../../_base_/iter_runtime.py']

custom_imports = dict(
    imports=[
        'refineclip.datasets.microworld',
        'refineclip.distill.contrastive_pretraining',
        'refineclip.distill',
        'refineclip.distill.muon',
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
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    # Other images than those of train and val, by their split.
    dataset=dict(type='MicroworldPairs', seed=0),
)
optim_wrapper = dict(
    type='OptimWrapper',
    # Matrices of blocks move by orthogonal steps; the rest is AdamW's, at a rate of 1.5e-3.
    constructor='MuonOptimWrapperConstructor',
    optimizer=dict(
        type='Muon',
        lr=0.02,
        adjust_lr_fn='original',
        nesterov=True,
        fallback_lr_scale=0.075,
        betas=(0.9, 0.98),
        weight_decay=0.05,
    ),
    clip_grad=dict(max_norm=1.0),
    # Decay on matrices only.
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys=dict(logit_scale=dict(decay_mult=0.0))
    ),
)

default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=500, max_keep_ckpts=2))
# Nothing is read from disk, so no image can be bad.
custom_hooks = []
# The seed of weights and order.
randomness = dict(seed=0, deterministic=True)
