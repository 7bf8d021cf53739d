# Vision-only: DINOv2 ViT-S/14 follows its own Refiner, on any folder of images.
_base_ = [
    '../../_base_/models/region-alignment.py',
    '../../_base_/datasets/photos_regions_random-crops.py',
    '../../_base_/schedules/r-sc-v_1k.py',
    '../../_base_/iter_runtime.py',
]

model = dict(
    method='r-sc-v',
    data_preprocessor=dict(
        # ImageNet's normalisation, DINOv2's own; sizes as in stage 1.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        image_size=518,
        crop_size=518,
    ),
    student=dict(model='timm/vit_small_patch14_dinov2', pretrained='lvd142m', dense_mode='plain'),
    refiner=dict(
        checkpoint='work_dirs/refiner_dinov2-vit-s14_1xb16-amp-1k_photos-518/iter_1000.pth',
    ),
)
# The student as it is, written as a backbone: our pilot blended nothing.
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=1.0)]
