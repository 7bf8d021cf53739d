"""A folder that open_clip loads: ``create_model_and_transforms('local-dir:FOLDER')``."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import open_clip
import torch
from mmengine.logging import print_log
from open_clip.tokenizer import HFTokenizer
from PIL import Image
from safetensors.torch import save_file

from refineclip.encoders.build import wrap_tower
from refineclip.encoders.dense_clip import DenseCLIP

from .activations import is_quick_gelu
from .compare import Comparison, compare, normalize_pixels, sample_pixels
from .folder import full_precision
from .subject import Subject, sample_tokens

MERGES = 'merges.txt.gz'


def export_open_clip(
    subject: Subject, folder: Path, picture: Image.Image, half: bool = False
) -> list[Comparison]:
    """Write both towers, config and tokenizer, and load them with open_clip.

    Args:
        subject: What is exported.
        folder: Empty.
        picture: For the comparison.
        half: Round the weights to float16 first, and compare with the rounded ones.

    Raises:
        ValueError: If there is no text tower, which open_clip's models have.
    """
    source, clip = subject.source(), subject.folded_clip()
    visual = clip.visual
    if half:
        clip = copy.deepcopy(clip).half().float()
    state = {
        'visual.' + key.removeprefix('visual.model.') if key.startswith('visual.') else key: tensor
        for key, tensor in clip.state_dict().items()
    }
    tensors = full_precision(state)
    if half:
        tensors = {key: tensor.half() for key, tensor in tensors.items()}
    save_file(tensors, folder / 'open_clip_model.safetensors', metadata={'format': 'pt'})
    config: dict[str, Any] = {**source.config, 'custom_text': True}
    if is_quick_gelu(visual):
        config['quick_gelu'] = True
    for tower in ('vision_cfg', 'text_cfg'):  # weights come from this folder alone
        config[tower] = {k: v for k, v in config[tower].items() if not k.endswith('_pretrained')}
    content = {
        'model_cfg': config,
        'preprocess_cfg': dict(
            mean=visual.image_mean,
            std=visual.image_std,
            interpolation=source.interpolation,
            resize_mode=source.resize_mode,
        ),
        # Not of open_clip, which knows one image size: what refineclip does at others.
        'position_interpolation': visual.position_interpolation,
    }
    path = folder / 'open_clip_config.json'
    path.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    _write_tokenizer(subject, clip, config['text_cfg'], folder)
    return _load_back(clip, subject.encoder.dense_mode, folder, picture)


def _write_tokenizer(
    subject: Subject, clip: DenseCLIP, text_config: dict[str, Any], folder: Path
) -> None:
    """Put beside the weights what open_clip's tokenizer reads; the default one is in open_clip."""
    merges = text_config.get('tokenizer_kwargs', {}).get('bpe_path')
    own = subject.asset_folder()
    if merges is not None and own is not None:
        shutil.copy2(own / merges, folder / merges)
    if not text_config.get('hf_tokenizer_name'):
        return
    try:
        tokenizer = clip.tokenizer
    except (ValueError, OSError) as error:  # no transformers, or no network
        print_log(
            f'the folder has no tokenizer, which could not be had ({error}); '
            f'open_clip.get_tokenizer({subject.model!r}) gives it where there is a network',
            'current',
            level=30,
        )
        return
    assert isinstance(tokenizer, HFTokenizer)
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def _load_back(clip: DenseCLIP, mode: str, folder: Path, picture: Image.Image) -> list[Comparison]:
    loaded, _, _ = open_clip.create_model_and_transforms(f'local-dir:{folder}')
    loaded.eval()
    visual = clip.visual
    tower = wrap_tower(
        loaded.visual,
        loaded.visual.image_mean,
        loaded.visual.image_std,
        visual.position_interpolation,
    )
    found = []
    for name, pixels in sample_pixels(visual.native_size, picture).items():
        ours, theirs = normalize_pixels(pixels, visual), normalize_pixels(pixels, tower)
        found += [
            compare(f'dense map, {name}', visual.dense(ours, mode), tower.dense(theirs, mode)),
            compare(
                f'image embedding, {name}',
                visual.image_embedding(ours),
                loaded.encode_image(theirs),
            ),
        ]
    assert clip.text is not None
    tokens = sample_tokens(clip.text, loaded.context_length)
    found.append(compare('text', clip.text(tokens), loaded.encode_text(tokens)))
    for name in ('logit_scale', 'logit_bias'):
        own = getattr(clip, name)
        if own is not None:
            found.append(compare(name, own.flatten(), getattr(loaded, name).flatten()))
    return found
