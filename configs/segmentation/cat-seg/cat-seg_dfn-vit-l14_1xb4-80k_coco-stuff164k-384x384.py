# Training of the OpenAI L with the tower replaced: 224 px natively, run at 336 px as OpenAI's, for
# the token grid of 24 x 24 that the aggregator's windows fill.
_base_ = './cat-seg_openai-vit-l14-336_1xb4-80k_coco-stuff164k-384x384.py'

model = dict(
    backbone=dict(model='ViT-L-14-quickgelu', pretrained='dfn2b'),
    text_encoder=dict(model='ViT-L-14-quickgelu', pretrained='dfn2b'),
)
