# Stage 1, one pass over COCO in batches of 16 images. Nothing of it is stated in the paper.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)

optim_wrapper = dict(
    # On a CPU: --cfg-options optim_wrapper.type=OptimWrapper
    type='AmpOptimWrapper',
    # lr from our pilot (batch 8) and from UniRefiner (batch 16); decay, clipping and warm-up from
    # our pilot.
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=10),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
