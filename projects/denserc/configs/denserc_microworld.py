# DenseRC on the drawn world: steps, images, regions and optimiser are those of the suite.
_base_ = ['../../../configs/microworld/_base_/region-alignment_microworld.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.denserc.denserc'],
    allow_failed_imports=False,
)
model = dict(
    _delete_=True,
    type='DenseRC',
    data_preprocessor=_base_.data_preprocessor,
    student={**_base_.encoder, 'dense_mode': 'gated-values'},
    rla=dict(type='CLIPSelfLoss', loss_weight=1.0),
    # The weight that is known of it.
    correlation=dict(type='CorrelationLoss', distance='mse', loss_weight=0.025),
    # No vision model has seen the drawn world: the frozen CLIP's own map, a deviation.
    vision_model=_base_.encoder,
)
