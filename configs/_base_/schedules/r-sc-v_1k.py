# Stage 2 vision-only for a folder of any size. Nothing of it is stated in the paper: lr, decay,
# clipping and warm-up from our pilot on real photos (48 steps of 8 images), length our choice.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1000)

optim_wrapper = dict(
    # On a CPU: --cfg-options optim_wrapper.type=OptimWrapper
    type='AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-5, weight_decay=0.05),
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=8),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=8),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
