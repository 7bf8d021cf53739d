# Evaluation on central squares of 320 px, as PiCIE and STEGO.
_base_ = ['./cocostuff27.py']

val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CocoStuff27',
        data_root=_base_.data_root,
        split='val2017',
        image_size=_base_.image_size,
        with_labels=True,
        ann_file=None,
    ),
)
val_evaluator = dict(type='HungarianSegMetric', num_classes=27)
val_cfg = dict(type='ValLoop')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict(type='TestLoop')
