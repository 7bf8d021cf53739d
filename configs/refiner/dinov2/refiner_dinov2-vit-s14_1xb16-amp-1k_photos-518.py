# A Refiner for DINOv2 ViT-S/14 on any folder of images.
_base_ = [
    '../../_base_/models/refiner-training.py',
    '../../_base_/datasets/photos_regions_random-crops.py',
    '../../_base_/schedules/refiner_1k.py',
    '../../_base_/iter_runtime.py',
]

model = dict(
    data_preprocessor=dict(
        # ImageNet's normalisation, DINOv2's own.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        # Native size of these weights; UniRefiner takes it for DINOv2 too.
        image_size=518,
        crop_size=518,
    ),
    # No text is involved, so nothing asks for the value mode.
    encoder=dict(model='timm/vit_small_patch14_dinov2', pretrained='lvd142m', dense_mode='plain'),
)
