# Stage 2: all five blocks of the student, 300 steps.
_base_ = './microworld-dense.py'

model = dict(
    type='RegionAlignment',
    data_preprocessor=_base_.data_preprocessor,
    student=dict(type='RefinerCLIP', model='microworld-clip', pretrained='shipped'),
    rla=dict(type='CLIPSelfLoss'),
    # The knob that matters is loss_weight / temperature^2: 300, of the pilot's good range.
    scd=dict(
        type='SCDLoss',
        student_temperature=0.1,
        teacher_temperature=0.1,
        roi_size=8,
        loss_weight=3.0,
    ),
    refiner=dict(num_blocks=3, checkpoint='work_dirs/refiner_microworld/iter_200.pth'),
)
# Cells of an object's size or larger: the 6 x 6 grids of CLIPSelf's code would be smaller than the
# objects here, and with them alignment did no harm in the pilot.
train_dataloader = dict(
    dataset=dict(region_sampler=dict(type='GridRegions', max_split=3, max_regions=8))
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=300)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=20),
]
# The student itself: what blending it with the original does is another question.
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=1.0)]
