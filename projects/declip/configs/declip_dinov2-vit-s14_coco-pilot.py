# DeCLIP on 128 photos: steps, images, regions and optimiser are those of the pilot.
_base_ = ['../../../configs/pilot/_base_/stage2-pilot.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.declip.declip'],
    allow_failed_imports=False,
)
model = dict(
    _delete_=True,
    type='DeCLIP',
    data_preprocessor=_base_.data_preprocessor,
    student={**_base_.model.student, 'dense_mode': 'query-query-only'},
    content=dict(type='CLIPSelfLoss', loss_weight=1.0),
    # The paper's lambda; 0.1 in the published script.
    context=dict(type='CorrelationLoss', distance='row-norm', loss_weight=0.25),
    # The pilot's student is itself the vision model at hand: frozen, its own untouched map.
    vision_model=_base_.model.student,
    # Only its feature statistics are used (tools/fit_text_head.py): no label reaches the student.
    text_head='work_dirs/text_head.safetensors',
    cache_dir='work_dirs/cache',
)
