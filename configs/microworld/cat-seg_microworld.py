# CAT-Seg on the drawn world, in the words of its captions. Small and short: a CPU trains twelve.
_base_ = ['../segmentation/cat-seg/cat-seg_microworld-clip_1xb8-300i_microworld-base.py']
num_iters = 150

model = dict(
    decode_head=dict(
        aggregator=dict(decoder_channels=(16, 16), decoder_guidance_channels=(8, 4)),
    ),
    # One view; windows of an enlarged image cost five times as much.
    test_cfg=dict(_delete_=True, mode='whole'),
)
train_dataloader = dict(batch_size=4)
train_cfg = dict(max_iters=num_iters, val_interval=num_iters)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=num_iters, eta_min=0.0, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=num_iters))
auto_scale_lr = dict(base_batch_size=4)
test_evaluator = dict(_delete_=True, type='VocabularyIoUMetric', iou_metrics=['mIoU'])
val_evaluator = test_evaluator
