# CLIPSelf's schedule and synchronised batches of 16 images on a tower that it did not train.
_base_ = [
    '../../_base_/models/region-alignment_dfn-vit-l14.py',
    '../../_base_/datasets/coco_regions_grid.py',
    '../../_base_/schedules/region-alignment_6e.py',
    '../../_base_/default_runtime.py',
]

# The published code gives these to every model whose name contains 'vit'.
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.98), eps=1e-6))
# alpha of CLIPSelf's EVA-02 L/14 script.
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=0.95)]
