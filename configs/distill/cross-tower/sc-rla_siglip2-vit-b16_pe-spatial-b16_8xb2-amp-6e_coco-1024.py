# SigLIP 2 B/16 learns regions from its own crops, and correlations from PE-Spatial B/16.
_base_ = [
    '../../_base_/models/region-alignment.py',
    '../../_base_/datasets/coco_regions_grid.py',
    '../../_base_/schedules/region-alignment_6e.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    method='sc-rla',
    # SigLIP's own normalisation, times 255; sizes of CLIPSelf's B/16 script.
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, image_size=1024, crop_size=224),
    student=dict(model='ViT-B-16-SigLIP2', pretrained='webli'),
    # Any tower: patch, width and normalisation are its own.
    scd_teacher=dict(
        type='RefinerCLIP',
        model='timm/vit_pe_spatial_base_patch16_512',
        pretrained='fb',
        dense_mode='plain',
    ),
    refiner=None,
)
# The published code gives these to every model whose name contains 'vit'.
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.98), eps=1e-6))
# alpha of CLIPSelf's EVA-02 B/16 script.
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=0.7)]
