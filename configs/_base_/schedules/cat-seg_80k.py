# CAT-Seg's released schedule: batch 4, cosine without warm-up, towers at a hundredth of the rate.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=1e-4),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys=dict(backbone=dict(lr_mult=0.01), text_encoder=dict(lr_mult=0.01)),
    ),
    # Norm of all gradients together.
    clip_grad=dict(max_norm=0.01),
)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=80000, eta_min=0.0, by_epoch=False)]
auto_scale_lr = dict(enable=False, base_batch_size=4)
