# F-ViT on the drawn world: boxes of 12 base kinds are trained, 4 novel kinds are found by name.
# Sizes are chosen for a CPU; what is not named here is F-ViT's (configs/_base_/models/fvit.py).
_base_ = ['../_base_/models/fvit_toy.py', '../detection/_base_/runtime.py']
num_iters = 500
data_root = 'data/microworld/'

model = dict(
    # A refined one: model.backbone.init_cfg.checkpoint=work_dirs/.../refined_iter_300.pth
    roi_head=dict(
        bbox_head=dict(
            classifier=dict(
                split='microworld',
                text=dict(templates=['a {}'], cache_dir=None),
                # The tokenizer of this world knows 25 words, and "background" is none of them.
                learn_background=True,
            )
        )
    )
)

train_pipeline = [
    dict(type='LoadUprightImage'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadUprightImage'),
    # As drawn; mmdet wants the factor that this writes down.
    dict(type='Resize', scale=(128, 128)),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='OVCocoDataset',
        split='microworld',
        data_root=data_root,
        ann_file='annotations/instances_train_base.json',
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='OVCocoDataset',
        split='microworld',
        data_root=data_root,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='FastOVCocoMetric', ann_file=data_root + 'annotations/instances_val.json', metric='bbox'
)
test_evaluator = val_evaluator

train_cfg = dict(type='IterBasedTrainLoop', max_iters=num_iters, val_interval=num_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.1),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', T_max=num_iters, eta_min=0.0, by_epoch=False),
]
auto_scale_lr = dict(enable=False, base_batch_size=4)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(by_epoch=False, interval=num_iters))
log_processor = dict(by_epoch=False)
