# Training of the OpenAI model with the tower replaced; DFN's weights are OpenAI's architecture.
_base_ = './cat-seg_openai-vit-b16_1xb4-80k_coco-stuff164k-384x384.py'

model = dict(
    # Position embeddings of the native 14 x 14 are resized at each pass, so that files of stage 2
    # fit as they are.
    backbone=dict(pretrained='dfn2b', model_kwargs=None),
    text_encoder=dict(pretrained='dfn2b'),
)
