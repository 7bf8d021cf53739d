# Training of the OpenAI L with the tower replaced; patches of 16 px, so 384 px are 24 x 24 tokens.
# The tokenizer needs the package transformers.
_base_ = './cat-seg_openai-vit-l14-336_1xb4-80k_coco-stuff164k-384x384.py'

model = dict(
    # SigLIP's own mean and standard deviation.
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(
        model='ViT-L-16-SigLIP2-384',
        pretrained='webli',
        model_kwargs=None,
        # There is no class token, whose residual CAT-Seg gives to every token: each keeps its own,
        # and goes through the value path of the attention pool.
        dense_mode='value',
    ),
    input_size=(384, 384),
    text_encoder=dict(model='ViT-L-16-SigLIP2-384', pretrained='webli'),
)
