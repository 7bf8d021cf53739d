# CLIPSelf's code as it runs, 2 images a step (see region-alignment_44k.py), on a tower that it
# publishes no script for: sizes, trained blocks and alpha of its EVA-02 script.
_base_ = [
    '../../_base_/models/region-alignment_openai-vit-b16.py',
    '../../_base_/datasets/coco_regions_grid.py',
    '../../_base_/schedules/region-alignment_44k.py',
    '../../_base_/iter_runtime.py',
]

train_dataloader = dict(sampler=dict(type='InfiniteEpochSampler'))
# The published code gives these to every model whose name contains 'vit'.
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.98), eps=1e-6))
# One checkpoint per "epoch" of the published run.
default_hooks = dict(checkpoint=dict(interval=7393))
# alpha of CLIPSelf's EVA-02 B/16 script.
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=0.7)]
