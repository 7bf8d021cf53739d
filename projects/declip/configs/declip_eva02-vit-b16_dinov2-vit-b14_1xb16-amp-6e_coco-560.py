# DeCLIP at published size: 560 px, 16 images a step, 6 epochs, lr 1e-5, alpha .7, lambda .25.
_base_ = [
    '../../../configs/_base_/models/region-alignment.py',
    '../../../configs/_base_/datasets/coco_regions_grid.py',
    '../../../configs/_base_/schedules/region-alignment_6e.py',
    '../../../configs/_base_/default_runtime.py',
]

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.declip.declip'],
    allow_failed_imports=False,
)
model = dict(
    _delete_=True,
    type='DeCLIP',
    # Crop sizes as CLIPSelf's B/16 script.
    data_preprocessor={**_base_.model.data_preprocessor, 'image_size': 560, 'crop_size': 224},
    student=dict(
        type='RefinerCLIP',
        model='EVA02-B-16',
        pretrained='merged2b_s8b_b131k',
        dense_mode='query-query-only',
    ),
    content=dict(type='CLIPSelfLoss', loss_weight=1.0),
    context=dict(type='CorrelationLoss', distance='row-norm', loss_weight=0.25),
    # 560 px are 35 x 35 tokens of 16 px; the vision model sees 490 px, which are as many of 14.
    vision_model=dict(
        type='RefinerCLIP',
        model='timm/vit_base_patch14_dinov2',
        pretrained='lvd142m',
        dense_mode='plain',
    ),
)
# 4 GPUs x 4 images in the published script.
train_dataloader = dict(batch_size=16, num_workers=8)
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=0.7)]
