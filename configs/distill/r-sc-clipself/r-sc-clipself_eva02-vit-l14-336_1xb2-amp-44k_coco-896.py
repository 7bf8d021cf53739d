# As published: CLIPSelf's code trains on 2 images a step (see region-alignment_44k.py).
_base_ = [
    '../../_base_/models/region-alignment_eva02-vit-l14-336.py',
    '../../_base_/datasets/coco_regions_grid.py',
    '../../_base_/schedules/region-alignment_44k.py',
    '../../_base_/iter_runtime.py',
]

train_dataloader = dict(sampler=dict(type='InfiniteEpochSampler'))
# One checkpoint per "epoch" of the published run.
default_hooks = dict(checkpoint=dict(interval=7393))
# alpha of CLIPSelf's L/14 script.
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=0.95)]
