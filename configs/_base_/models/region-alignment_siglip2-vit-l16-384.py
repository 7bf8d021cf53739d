# SigLIP 2 ViT-L/16-384: images of 1024 px (a grid of 64 x 64, as CLIPSelf's), crops of the native
# 384 px. No one published this recipe. There is no class token: an image or crop is embedded by the
# tower's attention pool, and so is every token of the dense map, alone.
_base_ = './region-alignment.py'

model = dict(
    data_preprocessor=dict(
        # SigLIP's normalisation, times 255.
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        image_size=1024,
        crop_size=384,
    ),
    student=dict(model='ViT-L-16-SigLIP2-384', pretrained='webli'),
    refiner=dict(
        checkpoint='work_dirs/refiner_siglip2-vit-l16-384_1xb16-amp-1e_coco-448/epoch_1.pth',
    ),
)
