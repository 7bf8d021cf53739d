# Synchronised batches of 16 images, as CLIPSelf's scripts ask for.
_base_ = [
    '../../_base_/models/region-alignment_eva02-vit-b16.py',
    '../../_base_/datasets/coco_regions_grid.py',
    '../../_base_/schedules/region-alignment_6e.py',
    '../../_base_/default_runtime.py',
]

# alpha of CLIPSelf's B/16 script.
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=0.7)]
