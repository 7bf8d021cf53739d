# F-ViT's schedule of OV-COCO: batches of 64 images, 3 epochs at one learning rate. Its author:
# epoch 2 is usually the best, then the base classes over-fit.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale=512.0,
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.1),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
param_scheduler = [dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250)]
# Images per step that lr belongs to, for --auto-scale-lr.
auto_scale_lr = dict(enable=False, base_batch_size=64)
