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
        # Form and weight by default: docs/search.md; not searched for segmentors.
        scd=dict(type='SCDLoss', roi_size=8),
        region_sampler=dict(type='GridRegions'),
    ),
]
