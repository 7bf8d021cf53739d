# DenseRC on 128 photos: steps, images, regions and optimiser are those of the pilot.
_base_ = ['../../../configs/pilot/_base_/stage2-pilot.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.denserc.denserc'],
    allow_failed_imports=False,
)
model = dict(
    _delete_=True,
    type='DenseRC',
    data_preprocessor=_base_.data_preprocessor,
    student={**_base_.model.student, 'dense_mode': 'gated-values'},
    rla=dict(type='CLIPSelfLoss', loss_weight=1.0),
    # The weight that is known of it.
    correlation=dict(type='CorrelationLoss', distance='mse', loss_weight=0.025),
    # The pilot's student is itself the vision model at hand: frozen, its own untouched map.
    vision_model=_base_.model.student,
    # Only its feature statistics are used (tools/fit_text_head.py): no label reaches the student.
    text_head='work_dirs/text_head.safetensors',
    cache_dir='work_dirs/cache',
)
