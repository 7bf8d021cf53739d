# OpenAI CLIP ViT-L/14-336 (quick GELU comes with these weights): sizes of the EVA-02 preset, since
# CLIPSelf publishes no script for this tower; what its author says of it is the 672 px preset. The
# 336 px weights are the ones whose native size is the preset's crop size.
_base_ = './region-alignment.py'

model = dict(
    data_preprocessor=dict(image_size=896, crop_size=336),
    student=dict(model='ViT-L-14-336-quickgelu', pretrained='openai'),
    refiner=dict(
        checkpoint='work_dirs/refiner_openai-vit-l14-336_1xb16-amp-1e_coco-448/epoch_1.pth',
    ),
)
