# Training of the OpenAI model with the tower replaced, which is what others did with EVA-02.
_base_ = './cat-seg_openai-vit-b16_1xb4-80k_coco-stuff164k-384x384.py'

model = dict(
    # Rotary embeddings take any grid.
    backbone=dict(model='EVA02-B-16', pretrained='merged2b_s8b_b131k', model_kwargs=None),
    text_encoder=dict(model='EVA02-B-16', pretrained='merged2b_s8b_b131k'),
)
