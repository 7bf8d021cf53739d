# DenseRC at published size: 1024 px, 16 images a step, 6 epochs, lr 1e-5, grids up to 6 x 6, weight
# .025. Its blend with the original weights is not known: that of CLIPSelf.
_base_ = [
    '../../../configs/_base_/models/region-alignment.py',
    '../../../configs/_base_/datasets/coco_regions_grid.py',
    '../../../configs/_base_/schedules/region-alignment_6e.py',
    '../../../configs/_base_/default_runtime.py',
]

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.denserc.denserc'],
    allow_failed_imports=False,
)
model = dict(
    _delete_=True,
    type='DenseRC',
    # Crops as CLIPSelf's B/16 script.
    data_preprocessor={**_base_.model.data_preprocessor, 'image_size': 1024, 'crop_size': 224},
    student=dict(
        type='RefinerCLIP',
        model='EVA02-B-16',
        pretrained='merged2b_s8b_b131k',
        dense_mode='gated-values',
    ),
    rla=dict(type='CLIPSelfLoss', loss_weight=1.0),
    correlation=dict(type='CorrelationLoss', distance='mse', loss_weight=0.025),
    # 64 x 64 tokens on both sides: the vision model sees 896 px. The size of DINOv2 is not
    # known.
    vision_model=dict(
        type='RefinerCLIP',
        model='timm/vit_base_patch14_dinov2',
        pretrained='lvd142m',
        dense_mode='plain',
    ),
)
# 4 GPUs x 4 images.
train_dataloader = dict(batch_size=16, num_workers=8)
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=0.7)]
