# A Refiner for DINOv3 ViT-B/16 on any folder of images.
_base_ = [
    '../../_base_/models/refiner-training.py',
    '../../_base_/datasets/photos_regions_random-crops.py',
    '../../_base_/schedules/refiner_1k.py',
    '../../_base_/iter_runtime.py',
]

model = dict(
    data_preprocessor=dict(
        # ImageNet's normalisation, DINOv3's own.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        # Our choice: the multiple of the patch next to the 518 px of the DINOv2 preset.
        image_size=512,
        crop_size=512,
    ),
    # No text is involved, so nothing asks for the value mode.
    encoder=dict(model='timm/vit_base_patch16_dinov3', pretrained='lvd1689m', dense_mode='plain'),
)
