# Stage 2 on the microworld: all five blocks of the student, 300 steps of 8 images.
_base_ = ['../../_base_/iter_runtime.py', './microworld.py']

model = dict(
    type='RegionAlignment',
    data_preprocessor=_base_.data_preprocessor,
    student=_base_.encoder,
    rla=dict(type='CLIPSelfLoss', loss_weight=1.0),
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
    refiner=dict(num_blocks=3, checkpoint='work_dirs/refiner_microworld/iter_200.pth'),
)
train_dataloader = dict(
    dataset=dict(
        # Cells as large as the objects or larger, which is where the pilot saw alignment damage
        # the map; rla-grid6 has the published, finer grids, where it did not.
        region_sampler=dict(type='GridRegions', max_split=3, max_regions=8)
    )
)
# The student itself, not blended with the original.
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=1.0)]
