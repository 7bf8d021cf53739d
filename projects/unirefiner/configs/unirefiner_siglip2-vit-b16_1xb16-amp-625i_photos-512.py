# UniRefiner at published size: 5,000 photos twice, 16 a step, 512 px, lr 1e-4 held constant.
# Its smallest published tower is SigLIP 2 So400M; this is the B/16 of that family.
_base_ = [
    '../../../configs/_base_/models/region-alignment_siglip2-vit-b16.py',
    '../../../configs/_base_/datasets/photos_regions_random-crops.py',
    '../../../configs/_base_/schedules/refiner_1k.py',
    '../../../configs/_base_/iter_runtime.py',
]

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.unirefiner.unirefiner'],
    allow_failed_imports=False,
)
model = dict(
    _delete_=True,
    type='UniRefiner',
    data_preprocessor={
        **_base_.model.data_preprocessor,
        'image_size': 512,
        'crop_size': 512,
        'image_resize': 'squash',
        'crop_resize': 'squash',
    },
    student=dict(
        type='RefinerCLIP',
        model='ViT-B-16-SigLIP2-512',
        pretrained='webli',
        dense_mode='border-plain',
    ),
    lora=dict(rank=8, alpha=16),
    # .3 and .55 as in the published SigLIP 2 preset.
    contrast=dict(type='ContrastiveRegisterLoss', temperature=0.2, uniformity_weight=0.3),
    fp_gp_threshold=0.5,
    register_threshold=0.55,
    scd=dict(
        type='SCDLoss',
        normalize='minmax',
        detach_keys=True,
        student_temperature=0.2,
        teacher_temperature=0.2,
        loss_weight=0.4,
        start=0.1,
    ),
    area_range=(0.25, 0.5),
    max_regions_per_image=3,
)
train_dataloader = dict(
    dataset=dict(region_sampler=dict(groups=[dict(num=3, area=(0.25, 0.5), ratio=(2 / 3, 3 / 2))]))
)
train_cfg = dict(max_iters=625)
optim_wrapper = dict(
    dtype='bfloat16',
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.1),
    clip_grad=None,
)
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=False, begin=0, end=625)]
# Published as it is trained: no blend with the original.
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=1.0)]
