# Single pass at published size: windows of 224 px every 24 px, the last two blocks, lr 2e-5, decay
# 1e-4, two images a step, 10 epochs. Published on 25,000 photos of SA-1B of 512 to 1024 px with the
# LAION weights; here on COCO, whose photos are smaller.
_base_ = [
    '../../../configs/_base_/models/region-alignment_openai-vit-b16.py',
    '../../../configs/_base_/datasets/coco_regions_random-crops.py',
    '../../../configs/_base_/schedules/region-alignment_6e.py',
    '../../../configs/_base_/default_runtime.py',
]

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.single_pass.single_pass'],
    allow_failed_imports=False,
)
model = dict(
    _delete_=True,
    type='SinglePass',
    data_preprocessor={**_base_.model.data_preprocessor, 'image_size': 1024, 'crop_size': 224},
    student=dict(
        type='RefinerCLIP',
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        # MaskCLIP's map, as published.
        dense_mode='value-only',
        trainable_blocks=2,
    ),
    window_size=224,
    stride=24,
    sizes=(512, 640, 768, 896, 1024),
)
train_dataloader = dict(batch_size=1, num_workers=4)
train_cfg = dict(max_epochs=10)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=2e-5, weight_decay=1e-4),
    paramwise_cfg=None,
)
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=True, begin=0, end=10)]
auto_scale_lr = dict(base_batch_size=2)
# Published as it is trained: no blend with the original.
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=1.0)]
