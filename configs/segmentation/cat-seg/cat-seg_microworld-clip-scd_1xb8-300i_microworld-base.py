# The same with spatial correlation distillation from the tower as it was; logs loss_scd.
_base_ = './cat-seg_microworld-clip_1xb8-300i_microworld-base.py'

custom_imports = dict(
    imports=['refineclip.encoders', 'refineclip.segmentation', 'refineclip.distill'],
    allow_failed_imports=False,
)
custom_hooks = [
    dict(type='VocabularyHook'),
    dict(
        type='SCDHook',
        # docs/microworld.md: weight 3 at a learning rate of 3e-4 of the tower.
        scd=dict(type='SCDLoss', roi_size=8, loss_weight=3.0),
        region_sampler=dict(type='GridRegions'),
    ),
]
