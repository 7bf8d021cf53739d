# Single pass on 128 photos: steps, images and optimiser are those of the pilot.
_base_ = ['../../../configs/pilot/_base_/stage2-pilot.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.single_pass.single_pass'],
    allow_failed_imports=False,
)
model = dict(
    _delete_=True,
    type='SinglePass',
    # The student sees 224 px as in the pilot, the windows are cut from 448 px: photos have them.
    data_preprocessor={**_base_.data_preprocessor, 'image_size': 448},
    # The published code trains the last two blocks.
    student={**_base_.model.student, 'trainable_blocks': 2},
    sizes=(224,),
    teacher_scale=2.0,
    # Nine windows, half of each in common with the next.
    window_size=224,
    stride=112,
    cache_dir='work_dirs/cache',
)
# The pilot's rate times two: 2e-5 is published, twice that of alignment.
optim_wrapper = dict(optimizer=dict(lr=1e-4))
