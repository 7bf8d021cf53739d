# CAT-Seg, OpenAI L/14 at 336 px: the released configs/vitl_336.yaml.
_base_ = './cat-seg.py'

model = dict(
    backbone=dict(model='ViT-L-14-336-quickgelu', model_kwargs=None, out_indices=(7, 15, 23)),
    text_encoder=dict(model='ViT-L-14-336-quickgelu'),
    # Crops and windows stay at 384 px and are resized for the tower, as in the released code.
    input_size=(336, 336),
)
