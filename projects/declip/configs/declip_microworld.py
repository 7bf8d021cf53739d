# DeCLIP on the drawn world: steps, images, regions and optimiser are those of the suite.
_base_ = ['../../../configs/microworld/_base_/region-alignment_microworld.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.declip.declip'],
    allow_failed_imports=False,
)
model = dict(
    _delete_=True,
    type='DeCLIP',
    data_preprocessor=_base_.data_preprocessor,
    student={**_base_.encoder, 'dense_mode': 'query-query-only'},
    content=dict(type='CLIPSelfLoss', loss_weight=1.0),
    # The paper's lambda; 0.1 in the published script.
    context=dict(type='CorrelationLoss', distance='row-norm', loss_weight=0.25),
    # No vision model has seen the drawn world: a deviation.
    vision_model='frozen-student',
)
