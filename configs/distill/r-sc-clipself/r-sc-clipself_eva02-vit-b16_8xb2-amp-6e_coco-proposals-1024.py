# Regions are proposals instead of grid cells.
_base_ = [
    '../../_base_/models/region-alignment_eva02-vit-b16.py',
    '../../_base_/datasets/coco_regions_proposals.py',
    '../../_base_/schedules/region-alignment_6e.py',
    '../../_base_/default_runtime.py',
]

# CLIPSelf's published code: the teacher sees the proposal enlarged 1.5 times, the student pools it
# as it is.
model = dict(data_preprocessor=dict(crop_enlarge=1.5))
# alpha of CLIPSelf's B/16 script.
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=0.7)]
