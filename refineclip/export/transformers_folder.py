"""A folder that transformers loads as ``CLIPModel``, ``SiglipModel`` or ``Dinov2Model``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from mmengine.logging import print_log
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transformer import TextTransformer
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from refineclip.encoders.dense_clip import DenseCLIP
from refineclip.encoders.text.prompt_encoding import ends_at_text
from refineclip.encoders.towers.dense_vit import DenseViT
from refineclip.encoders.towers.open_clip_vit import OpenCLIPViT
from refineclip.encoders.towers.timm_vit import TimmViT
from refineclip.encoders.weights.renamed_state import State

from .activations import activation_name
from .compare import Comparison, compare, normalize_pixels, sample_pixels
from .folder import full_precision
from .subject import Subject, end_token, sample_tokens
from .transformers_state import clip_state, dinov2_state, siglip_state

BICUBIC, BILINEAR = 3, 2  # Pillow's numbers


@dataclass
class Layout:
    """One model class of transformers and what it is filled with.

    Attributes:
        model: Its name.
        config: Its configuration.
        state: Its weights, by its names.
        visual: The image tower that they came from.
        clip: Both towers, or None.
    """

    model: str
    config: Any
    state: State
    visual: DenseViT
    clip: DenseCLIP | None


def export_transformers(subject: Subject, folder: Path, picture: Image.Image) -> list[Comparison]:
    """Write weights, config, preprocessor and tokenizer, and load them with transformers.

    Raises:
        ValueError: If transformers has no such architecture.
    """
    layout = find_layout(subject)
    layout.config.architectures = [layout.model]
    layout.config.save_pretrained(folder)
    save_file(full_precision(layout.state), folder / 'model.safetensors', metadata={'format': 'pt'})
    _write_preprocessor(subject, layout, folder)
    if layout.clip is not None:
        _write_tokenizer(layout.clip, folder)
    return _load_back(layout, folder, picture)


def find_layout(subject: Subject) -> Layout:
    """Choose the model class for an encoder.

    Raises:
        ValueError: If there is none, saying what to take instead.
    """
    visual = subject.encoder.visual
    _check_square(visual)
    if isinstance(visual, TimmViT):
        architecture = visual.trunk.pretrained_cfg.get('architecture', '')
        if '_dinov2' in architecture and not _has_gated_mlp(visual):
            folded = subject.folded()
            assert isinstance(folded, TimmViT)
            return _dinov2_layout(folded)
        if not (visual.trunk.attn_pool is not None and '_siglip_' in architecture):
            raise ValueError(
                'expected a tower that transformers has as CLIPModel (OpenAI, OpenCLIP), '
                f'SiglipModel or Dinov2Model, got {architecture or subject.model}; export it as '
                'open-clip, timm or onnx'
            )
    clip = subject.folded_clip()
    text = clip.text
    if not isinstance(text, TextTransformer):
        raise ValueError(
            f"expected open_clip's own text tower, got {type(text).__name__}; transformers has no "
            'CLIP of such a pair, export it as open-clip or onnx'
        )
    return _clip_layout(clip) if isinstance(visual, OpenCLIPViT) else _siglip_layout(clip)


def _check_square(visual: DenseViT) -> None:
    height, width = visual.native_size
    if height != width:
        raise ValueError(
            f"expected a tower of square images, as transformers' are, got {height} x {width}"
        )


def _has_gated_mlp(visual: TimmViT) -> bool:
    return not isinstance(visual.blocks[0].mlp.act, nn.GELU)


def _text_config(text: Any) -> dict[str, Any]:
    block = text.transformer.resblocks[0]
    return dict(
        vocab_size=text.vocab_size,
        hidden_size=text.width,
        intermediate_size=block.mlp.c_fc.out_features,
        num_hidden_layers=len(text.transformer.resblocks),
        num_attention_heads=text.heads,
        max_position_embeddings=text.context_length,
        hidden_act=activation_name(text),
        layer_norm_eps=text.ln_final.eps,
    )


def _clip_layout(clip: DenseCLIP) -> Layout:
    visual, text = clip.visual, clip.text
    assert text is not None
    if not ends_at_text(text) or clip.logit_bias is not None:
        raise ValueError(
            'expected a causal text tower that is read at the end of the text, as CLIPModel has, '
            'got another; export it as open-clip or onnx'
        )
    model, blocks = visual.model, visual.blocks
    end = end_token(text)
    vision = dict(
        hidden_size=visual.width,
        intermediate_size=blocks[0].mlp.c_fc.out_features,
        num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].attn.num_heads,
        image_size=visual.native_size[0],
        patch_size=visual.patch_size,
        hidden_act=activation_name(visual),
        layer_norm_eps=model.ln_post.eps,
        projection_dim=visual.embed_dim,
    )
    words = dict(
        _text_config(text), projection_dim=visual.embed_dim, bos_token_id=end - 1, eos_token_id=end
    )
    config = transformers.CLIPConfig(
        text_config=words, vision_config=vision, projection_dim=visual.embed_dim
    )
    return Layout('CLIPModel', config, clip_state(clip), visual, clip)


def _siglip_layout(clip: DenseCLIP) -> Layout:
    visual, text = clip.visual, clip.text
    assert isinstance(visual, TimmViT)
    assert text is not None
    if text.attn_mask is not None or text.pool_type != 'last' or clip.logit_bias is None:
        raise ValueError(
            'expected a text tower that attends both ways and is read at its last token, and a '
            'bias of the logits, as SiglipModel has, got others; export it as open-clip or onnx'
        )
    blocks = visual.blocks
    vision = dict(
        hidden_size=visual.width,
        intermediate_size=blocks[0].mlp.fc1.out_features,
        num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].attn.num_heads,
        image_size=visual.native_size[0],
        patch_size=visual.patch_size,
        hidden_act=activation_name(visual),
        layer_norm_eps=visual.norm.eps,
    )
    words = dict(_text_config(text), projection_size=visual.embed_dim)
    config = transformers.SiglipConfig(text_config=words, vision_config=vision)
    return Layout('SiglipModel', config, siglip_state(clip), visual, clip)


def _dinov2_layout(visual: TimmViT) -> Layout:
    block = visual.blocks[0]
    registers = visual.num_prefix_tokens - 1
    kind = 'Dinov2WithRegisters' if registers else 'Dinov2'
    sizes = dict(
        hidden_size=visual.width,
        num_hidden_layers=visual.num_blocks,
        num_attention_heads=block.attn.num_heads,
        mlp_ratio=block.mlp.fc1.out_features // visual.width,
        hidden_act=activation_name(visual),
        layer_norm_eps=visual.norm.eps,
        image_size=visual.native_size[0],
        patch_size=visual.patch_size,
    )
    if registers:
        sizes['num_register_tokens'] = registers
    config = getattr(transformers, f'{kind}Config')(**sizes)
    return Layout(f'{kind}Model', config, dinov2_state(visual), visual, None)


def _write_preprocessor(subject: Subject, layout: Layout, folder: Path) -> None:
    side = layout.visual.native_size[0]
    resize, interpolation = 'shortest', 'bicubic'
    if layout.clip is not None:
        source = subject.source()
        resize, interpolation = source.resize_mode, source.interpolation
    squash = resize != 'shortest'
    kinds = {'CLIPModel': 'CLIPImageProcessor', 'SiglipModel': 'SiglipImageProcessor'}
    settings = dict(
        size=dict(height=side, width=side) if squash else dict(shortest_edge=side),
        do_center_crop=not squash,
        crop_size=dict(height=side, width=side),
        resample=BILINEAR if interpolation == 'bilinear' else BICUBIC,
        image_mean=list(layout.visual.image_mean),
        image_std=list(layout.visual.image_std),
    )
    if layout.model == 'SiglipModel':  # which always squashes, and does not know of crops
        settings = {k: v for k, v in settings.items() if k not in ('do_center_crop', 'crop_size')}
        settings['size'] = dict(height=side, width=side)
    kind = kinds.get(layout.model, 'BitImageProcessor')
    getattr(transformers, kind)(**settings).save_pretrained(folder)


def _write_tokenizer(clip: DenseCLIP, folder: Path) -> None:
    try:
        tokenizer = clip.tokenizer
    except (ValueError, OSError) as error:  # no network
        print_log(
            f'the folder has no tokenizer, which could not be had: {error}', 'current', level=30
        )
        return
    if isinstance(tokenizer, HFTokenizer):
        tokenizer.save_pretrained(folder)
        return
    assert isinstance(tokenizer, SimpleTokenizer)
    as_transformers(tokenizer).save_pretrained(folder)


def as_transformers(tokenizer: SimpleTokenizer) -> Any:
    """open_clip's byte pairs as a ``CLIPTokenizer``, which pads with the end of the text."""
    names = {tokenizer.sot_token_id: '<|startoftext|>', tokenizer.eot_token_id: '<|endoftext|>'}
    vocabulary = {names.get(index, word): index for word, index in tokenizer.encoder.items()}
    ranks = sorted(tokenizer.bpe_ranks.items(), key=lambda item: item[1])
    merges = [pair for pair, _ in ranks if len(pair) == 2]
    return transformers.CLIPTokenizer(
        vocab=vocabulary, merges=merges, model_max_length=tokenizer.context_length
    )


@torch.no_grad()
def _load_back(layout: Layout, folder: Path, picture: Image.Image) -> list[Comparison]:
    loaded, keys = getattr(transformers, layout.model).from_pretrained(
        folder, output_loading_info=True, dtype=torch.float32
    )
    wrong = {kind: sorted(map(str, names)) for kind, names in keys.items() if names}
    if wrong:
        raise ValueError(
            f'expected weights that fill {layout.model} of transformers '
            f'{transformers.__version__}, got {wrong}; this tower has layers that it lacks, export '
            'it as open-clip, timm or onnx'
        )
    loaded.eval()
    visual, found = layout.visual, []
    for name, pixels in sample_pixels(visual.native_size, picture).items():
        images = normalize_pixels(pixels, visual)
        tokens, grid = visual.embed(images)
        ours = visual.run(tokens, grid)
        if layout.model != 'CLIPModel':  # there the last norm is for the pooled token only
            ours = visual.norm(ours)
        tower = loaded if layout.clip is None else loaded.vision_model
        theirs = tower(pixel_values=images)
        found.append(compare(f'patch tokens, {name}', ours, theirs.last_hidden_state))
        embedding = theirs.pooler_output
        if layout.clip is not None:
            embedding = _embedding(loaded.get_image_features(pixel_values=images))
        ours = visual.image_embedding(images)
        found.append(compare(f'image embedding, {name}', ours, embedding))
    if layout.clip is not None:
        found += _compare_text(layout.clip, loaded)
    return found


def _compare_text(clip: DenseCLIP, loaded: Any) -> list[Comparison]:
    text: Any = clip.text
    tokens = sample_tokens(text, text.context_length)
    theirs = _embedding(loaded.get_text_features(input_ids=tokens))
    found = [compare('text', text(tokens), theirs)]
    for name in ('logit_scale', 'logit_bias'):
        own = getattr(clip, name)
        if own is not None:
            found.append(compare(name, own.flatten(), getattr(loaded, name).flatten()))
    return found


def _embedding(output: Any) -> Tensor:
    """Embedding (B, D) of what transformers returns: a tensor before version 5."""
    return output if isinstance(output, Tensor) else output.pooler_output
