# EVA-02-CLIP ViT-B/16.
_base_ = './text-seg_openai-vit-b16.py'

model = dict(
    backbone=dict(model='EVA02-B-16', pretrained='merged2b_s8b_b131k'),
    text=dict(model='EVA02-B-16', pretrained='merged2b_s8b_b131k'),
)
