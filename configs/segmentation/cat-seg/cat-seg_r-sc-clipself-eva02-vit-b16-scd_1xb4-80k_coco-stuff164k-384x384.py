# The same, and spatial correlation distillation goes on: the tower as stage 2 left it teaches.
_base_ = './cat-seg_r-sc-clipself-eva02-vit-b16_1xb4-80k_coco-stuff164k-384x384.py'

custom_hooks = [
    dict(type='VocabularyHook'),
    dict(
        type='SCDHook',
        # Form and weight by default: docs/search.md; not searched for segmentors.
        scd=dict(type='SCDLoss', roi_size=8),
        region_sampler=dict(type='GridRegions'),
    ),
]
custom_imports = dict(
    imports=['refineclip.encoders', 'refineclip.segmentation', 'refineclip.distill'],
    allow_failed_imports=False,
)
