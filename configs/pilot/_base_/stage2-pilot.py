# Stage 2: all twelve blocks of the student, 3 epochs of 128 photos (48 steps).
_base_ = ['./coco-pilot.py']

base_lr = 5e-5
warmup_iters = 8
num_iters = 48

model = dict(
    type='RegionAlignment',
    data_preprocessor=_base_.data_preprocessor,
    student=dict(
        type='RefinerCLIP',
        model='timm/vit_small_patch14_dinov2',
        pretrained='weights/vit_small_patch14_dinov2.safetensors',
        dense_mode='plain',
    ),
    rla=dict(type='CLIPSelfLoss'),
    # docs/search.md
    scd=dict(
        type='SCDLoss',
        normalize='minmax',
        detach_keys=True,
        student_temperature=0.2,
        teacher_temperature=0.2,
        roi_size=8,
        loss_weight=1.0,
    ),
    # SCD looks at four of the eight large regions per step, alignment at all fourteen.
    scd_area_range=(0.2, 0.5),
    scd_max_regions=4,
    cache_dir='work_dirs/cache',
)

train_dataloader = dict(
    dataset=dict(
        region_sampler=dict(groups=[dict(num=8, area=(0.2, 0.5)), dict(num=6, area=(0.03, 0.2))])
    )
)

optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=warmup_iters),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=warmup_iters,
        end=num_iters,
        T_max=num_iters - warmup_iters,
        eta_min=0.0,
    ),
]
train_cfg = dict(max_epochs=3)
