# Single pass on the drawn world: steps, images and optimiser are those of the suite.
_base_ = ['../../../configs/microworld/_base_/region-alignment_microworld.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.single_pass.single_pass'],
    allow_failed_imports=False,
)
model = dict(
    _delete_=True,
    type='SinglePass',
    data_preprocessor=_base_.data_preprocessor,
    # The published code trains the last two blocks.
    student={**_base_.encoder, 'trainable_blocks': 2},
    # Windows of the CLIP's native size; the stride is a quarter of it, where 24 of 224 px are
    # published: 25 windows of the largest image.
    window_size=64,
    stride=16,
    # The suite's size, which is measured, and a smaller one.
    sizes=(96, 128),
)
# The suite's rate times two: 2e-5 is published, twice that of alignment.
optim_wrapper = dict(optimizer=dict(lr=6e-4))
