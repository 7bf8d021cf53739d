"""The names of transformers' CLIP, SigLIP and DINOv2 in one table, read in both directions."""

from __future__ import annotations

import re

from .renamed_state import State

Rules = tuple[tuple[str, str], ...]

OPEN_CLIP_BLOCK = (
    ('layer_norm1', 'ln_1'),
    ('layer_norm2', 'ln_2'),
    ('self_attn.out_proj', 'attn.out_proj'),
    ('self_attn.qkv.', 'attn.in_proj_'),
    ('mlp.fc1', 'mlp.c_fc'),
    ('mlp.fc2', 'mlp.c_proj'),
)
TIMM_BLOCK = (
    ('layer_norm', 'norm'),
    ('self_attn.out_proj', 'attn.proj'),
    ('self_attn.qkv', 'attn.qkv'),
)
# (name of transformers, ours); prefixes, the first that fits counts.
TEXT: Rules = (
    ('text_model.embeddings.token_embedding.', 'text.token_embedding.'),
    ('text_model.embeddings.position_embedding.weight', 'text.positional_embedding'),
    ('text_model.encoder.layers.', 'text.transformer.resblocks.'),
    ('text_model.final_layer_norm.', 'text.ln_final.'),
    ('text_model.head.', 'text.text_projection.'),
    ('text_projection.weight', 'text.text_projection'),
)
CLIP: Rules = (
    *TEXT,
    ('vision_model.embeddings.class_embedding', 'visual.model.class_embedding'),
    ('vision_model.embeddings.patch_embedding.', 'visual.model.conv1.'),
    ('vision_model.embeddings.position_embedding.weight', 'visual.model.positional_embedding'),
    ('vision_model.pre_layrnorm.', 'visual.model.ln_pre.'),
    ('vision_model.encoder.layers.', 'visual.model.transformer.resblocks.'),
    ('vision_model.post_layernorm.', 'visual.model.ln_post.'),
    ('visual_projection.weight', 'visual.model.proj'),
)
SIGLIP_VISION: Rules = (
    ('vision_model.embeddings.patch_embedding.', 'patch_embed.proj.'),
    ('vision_model.embeddings.position_embedding.weight', 'pos_embed'),
    ('vision_model.encoder.layers.', 'blocks.'),
    ('vision_model.post_layernorm.', 'norm.'),
    ('vision_model.head.probe', 'attn_pool.latent'),
    ('vision_model.head.attention.out_proj.', 'attn_pool.proj.'),
    ('vision_model.head.layernorm.', 'attn_pool.norm.'),
    ('vision_model.head.', 'attn_pool.'),
)
DINO: Rules = (
    (r'embeddings.patch_embeddings.projection.', 'patch_embed.proj.'),
    (r'embeddings.patch_embeddings.', 'patch_embed.proj.'),
    ('embeddings.position_embeddings', 'pos_embed'),
    ('embeddings.', ''),
    ('encoder.layer.', 'blocks.'),
    ('layer.', 'blocks.'),
    ('layernorm.', 'norm.'),
)
DINO_BLOCK = (
    ('attention.attention.qkv', 'attn.qkv'),
    ('attention.output.dense', 'attn.proj'),
    ('attention.o_proj', 'attn.proj'),
    ('attention.qkv', 'attn.qkv'),
    ('layer_scale1.lambda1', 'ls1.gamma'),
    ('layer_scale2.lambda1', 'ls2.gamma'),
    ('mlp.weights_in', 'mlp.w12'),
    ('mlp.weights_out', 'mlp.w3'),
)

_BLOCK = re.compile(r'.*(layers?|blocks|resblocks)\.\d+\.')


def rename(state: State, rules: Rules, block_rules: Rules) -> State:
    """Rename from transformers by prefix, then within blocks; what no rule knows keeps its name."""
    renamed = {}
    for key, tensor in state.items():
        for old, new in rules:
            if key.startswith(old):
                key = new + key.removeprefix(old)
                break
        if _BLOCK.match(key):
            for old, new in block_rules:
                key = key.replace(old, new)
        renamed[key] = tensor
    return renamed


def rename_back(state: State, rules: Rules, block_rules: Rules) -> State:
    """Rename to transformers, by the rules of :func:`rename` read from right to left."""
    # Of several rules the longest counts: a prefix may begin another one.
    backward = sorted(((new, old) for old, new in rules), key=lambda rule: -len(rule[0]))
    return rename(state, tuple(backward), tuple((new, old) for old, new in block_rules))
