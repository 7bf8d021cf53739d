# Training of the OpenAI model with the tower replaced, which is what others did with EVA-02.
_base_ = './cat-seg_openai-vit-l14-336_1xb4-80k_coco-stuff164k-384x384.py'

model = dict(
    backbone=dict(model='EVA02-L-14-336', pretrained='merged2b_s6b_b61k'),
    text_encoder=dict(model='EVA02-L-14-336', pretrained='merged2b_s6b_b61k'),
)
