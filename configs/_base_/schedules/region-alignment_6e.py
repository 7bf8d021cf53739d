# CLIPSelf's schedule with synchronised gradients: 6 epochs of batches of 16 images.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=6)

optim_wrapper = dict(
    # fp16, as published. On a CPU: --cfg-options optim_wrapper.type=OptimWrapper
    type='AmpOptimWrapper',
    # betas and eps as the published code picks them for EVA names.
    optimizer=dict(type='AdamW', lr=1e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1),
    # No decay of any tensor with one dimension: norms, biases, layer scales.
    paramwise_cfg=dict(flat_decay_mult=0.0),
)
# 1000 iterations up to lr, cosine down to 0, per iteration; both end with train_cfg.
# The cosine starts at 0 here (length of an epoch unknown), after the warm-up there: lr differs by
# about 2 % of its peak at most.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=1000),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True),
]
# Images per step that lr belongs to, for --auto-scale-lr.
auto_scale_lr = dict(enable=False, base_batch_size=16)
