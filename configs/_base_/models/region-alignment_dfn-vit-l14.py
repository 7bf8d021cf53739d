# DFN ViT-L/14 (quick GELU comes with these weights): images of 896 px (a grid of 64 x 64, as
# CLIPSelf's), crops of 224 px, the native size. No one published this recipe.
_base_ = './region-alignment.py'

model = dict(
    data_preprocessor=dict(image_size=896, crop_size=224),
    student=dict(model='ViT-L-14-quickgelu', pretrained='dfn2b'),
    refiner=dict(
        checkpoint='work_dirs/refiner_dfn-vit-l14_1xb16-amp-1e_coco-448/epoch_1.pth',
    ),
)
