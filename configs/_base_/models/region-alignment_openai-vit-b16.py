# OpenAI CLIP ViT-B/16 (quick GELU comes with these weights): sizes of the EVA-02 preset, since
# CLIPSelf publishes no script for this tower.
_base_ = './region-alignment.py'

model = dict(
    data_preprocessor=dict(image_size=1024, crop_size=224),
    student=dict(model='ViT-B-16-quickgelu', pretrained='openai'),
    refiner=dict(
        checkpoint='work_dirs/refiner_openai-vit-b16_1xb16-amp-1e_coco-448/epoch_1.pth',
    ),
)
