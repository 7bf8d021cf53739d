"""Build a dense encoder by name: open_clip, timm, or an inline open_clip config."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from mmengine.logging import print_log
from open_clip.model import CLIPTextCfg, CustomTextCLIP, _build_vision_tower
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models import get_arch_pretrained_cfgs, split_model_name_tag
from torch import nn

from .dense_clip import DenseCLIP
from .sources import ModelSource, is_file_name, resolve_source
from .towers.dense_vit import DenseViT
from .towers.open_clip_vit import OpenCLIPViT
from .towers.timm_vit import TimmViT
from .weights.checkpoint_file import read_checkpoint
from .weights.key_layouts import wants_quick_gelu
from .weights.loading import load_weights

TIMM_PREFIX = 'timm/'
_DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def build_clip(
    model: str | dict[str, Any],
    pretrained: str | None = None,
    text: bool = True,
    precision: str = 'fp32',
    model_kwargs: dict[str, Any] | None = None,
    position_interpolation: str | None = None,
) -> DenseCLIP:
    """Build an image encoder with dense maps, and its text tower if it has one.

    Args:
        model: An open_clip name (``'ViT-B-16'``, ``'EVA02-B-16'``, ``'ViT-B-16-SigLIP'``), an
            ``'hf-hub:...'`` or ``'local-dir:...'`` name of open_clip, ``'timm/NAME'`` for a
            vision-only tower whose embedding is its token width, or an inline open_clip config
            (``dict(embed_dim=..., vision_cfg=..., text_cfg=...)``).
        pretrained: A tag of the library, a ``.safetensors``, ``.pt``, ``.pth`` or ``.bin`` file,
            ``'local-dir:FOLDER'`` (whose config then takes the place of ``model``), or None for
            random weights.
        text: Build the text tower. Must be False for files without one.
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'``: type of all weights.
        model_kwargs: For timm names, arguments of ``timm.create_model``; otherwise overrides of the
            open_clip config, merged one level deep.
        position_interpolation: How the position embedding is resized to other image sizes and from
            files of another grid, a key of
            :data:`~refineclip.encoders.position_interpolation.POSITION_INTERPOLATIONS`
            (``'bicubic'``, ``'bicubic-antialias'``, ...). None takes what the tower's published
            code does, which is plain bicubic for OpenAI, OpenCLIP and EVA towers.

    Returns:
        The model, in training mode as libraries return it, every parameter trainable.

    Raises:
        ValueError: If a name, a tag or the weights do not fit.
        FileNotFoundError: If a file or folder does not exist.
    """
    if precision not in _DTYPES:
        raise ValueError(f'expected precision out of {sorted(_DTYPES)}, got {precision!r}')
    if isinstance(model, str) and model.startswith(TIMM_PREFIX):
        name = model.removeprefix(TIMM_PREFIX)
        clip = _build_timm(name, pretrained, model_kwargs or {}, position_interpolation)
    else:
        source = resolve_source(model, pretrained)
        clip = _build_open_clip(source, text, model_kwargs or {}, position_interpolation)
    return clip.to(_DTYPES[precision])


def _build_timm(
    name: str,
    pretrained: str | None,
    model_kwargs: dict[str, Any],
    position_interpolation: str | None,
) -> DenseCLIP:
    """Build a vision-only model of timm."""
    arch, _ = split_model_name_tag(name)
    if not timm.is_model(arch):
        near = difflib.get_close_matches(arch, timm.list_models(), n=5)
        raise ValueError(f'expected a timm model name, got {arch!r}; close matches: {near}')
    from_file = pretrained is not None and is_file_name(pretrained)
    if pretrained is not None and not from_file:
        tags = [full.partition('.')[2] for full in get_arch_pretrained_cfgs(arch)]
        if pretrained not in tags:
            raise ValueError(
                f'expected a file or one of the tags {tags} of {arch}, got {pretrained!r}'
            )
        name = f'{arch}.{pretrained}'
    kwargs = {'num_classes': 0, **model_kwargs}
    # timm would resize positions by its own rule, whatever the family's, to another image size.
    from_native = pretrained is not None and not from_file and 'img_size' in kwargs
    tower = timm.create_model(
        name, pretrained=pretrained is not None and not from_file and not from_native, **kwargs
    )
    config = tower.pretrained_cfg
    clip = DenseCLIP(TimmViT(tower, config['mean'], config['std'], position_interpolation))
    if from_native:
        del kwargs['img_size']
        load_weights(clip, name, timm.create_model(name, pretrained=True, **kwargs).state_dict())
    elif pretrained is not None and from_file:
        load_weights(clip, pretrained)
    return clip


def _build_open_clip(
    source: ModelSource,
    text: bool,
    model_kwargs: dict[str, Any],
    position_interpolation: str | None,
) -> DenseCLIP:
    """Build a model from an open_clip config and load its weights."""
    config = _clean_config(source.config, model_kwargs)
    state = None if source.checkpoint is None else read_checkpoint(source.checkpoint)
    needs_quick_gelu = source.quick_gelu or (
        state is not None and wants_quick_gelu(state, source.checkpoint)
    )
    if needs_quick_gelu and not config.get('quick_gelu', False):
        print_log(f'{source.name}: quick GELU is used, because these weights need it', 'current')
        config['quick_gelu'] = True
    if text:
        if 'text_cfg' not in config:
            raise ValueError(
                f'expected text_cfg in the config of {source.name} for its text tower, got '
                f'{sorted(config)}; build the vision tower alone with text=False'
            )
        library = _built(source, partial(CustomTextCLIP, **config))
        visual, scale, bias = library.visual, library.logit_scale, library.logit_bias
    else:
        quick_gelu = config.get('quick_gelu', False)
        visual = _built(
            source,
            partial(_build_vision_tower, config['embed_dim'], config['vision_cfg'], quick_gelu),
        )
        scale, bias = _logit_parameters(config)
    clip = DenseCLIP(
        wrap_tower(
            visual,
            source.image_mean,
            source.image_std,
            position_interpolation or source.position_interpolation,
        ),
        text=library.text if text else None,
        logit_scale=scale,
        logit_bias=bias,
        tokenizer_factory=_tokenizer_factory(source, config),
    )
    if source.checkpoint is not None:
        load_weights(clip, source.checkpoint, state)
    return clip


def _built(source: ModelSource, build: Callable[[], Any]) -> Any:
    """Build a part of a library model.

    Raises:
        ValueError: The config has numbers that the library cannot build from.
    """
    try:
        return build()
    except (TypeError, ValueError, AssertionError, ArithmeticError, RuntimeError) as error:
        raise ValueError(
            f'expected a config that open_clip can build, got {source.config} for {source.name}: '
            f'{error}'
        ) from error


def _tokenizer_factory(source: ModelSource, config: dict[str, Any]) -> Callable[[], Any] | None:
    """Return the source's tokenizer factory, at the context length of the final config."""
    if source.tokenizer_factory is None or 'text_cfg' not in config:
        return None
    context_length = config['text_cfg'].get('context_length', CLIPTextCfg.context_length)
    return partial(_make_tokenizer, source, context_length)


def _make_tokenizer(source: ModelSource, context_length: int) -> Any:
    """Make the source's tokenizer.

    Raises:
        ValueError: If it needs a package that is not installed.
    """
    assert source.tokenizer_factory is not None
    try:
        return source.tokenizer_factory(context_length=context_length)
    except ImportError as error:
        raise ValueError(
            f'expected the packages of the tokenizer of {source.name} (SigLIP and MetaCLIP 2 need '
            f'transformers), got: {error}; pip install transformers'
        ) from error


def _clean_config(config: dict[str, Any], model_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of an open_clip config, merged with overrides, ready for construction."""
    config = copy.deepcopy(config)
    for key, override in model_kwargs.items():
        if isinstance(override, dict):
            config[key] = {**config.get(key, {}), **override}
        else:
            config[key] = override
    if 'multimodal_cfg' in config:
        raise ValueError('expected a CLIP with two towers, got a CoCa config; choose another model')
    config.pop('custom_text', None)  # every text tower is built as a module of its own
    # Weights come from one file for both towers, and a dense map needs every patch.
    config['vision_cfg'] = {
        **config['vision_cfg'],
        'timm_model_pretrained': False,
        'patch_dropout': 0.0,
    }
    if 'text_cfg' in config:
        config['text_cfg'] = {**config['text_cfg'], 'hf_model_pretrained': False}
    return config


def _logit_parameters(config: dict[str, Any]) -> tuple[nn.Parameter, nn.Parameter | None]:
    """Return logit scale and bias as open_clip initialises them, for a model without text tower."""
    scale = config.get('init_logit_scale', math.log(1 / 0.07))
    bias = config.get('init_logit_bias')
    shape = [1] if config.get('nonscalar_logit_scale', False) else []
    as_parameter = partial(torch.full, shape)
    return (
        nn.Parameter(as_parameter(float(scale))),
        None if bias is None else nn.Parameter(as_parameter(float(bias))),
    )


def wrap_tower(
    tower: nn.Module,
    image_mean: tuple[float, float, float],
    image_std: tuple[float, float, float],
    position_interpolation: str | None = None,
) -> DenseViT:
    """Wrap a vision tower that a library built.

    Args:
        tower: open_clip's tower, native or an adapter around a timm model.
        image_mean: Mean of the RGB channels, in [0, 1].
        image_std: Standard deviation of the RGB channels, in [0, 1].
        position_interpolation: See :func:`build_clip`.

    Raises:
        ValueError: If the tower is no vision transformer.
    """
    if isinstance(tower, VisionTransformer):
        return OpenCLIPViT(tower, image_mean, image_std, position_interpolation or 'bicubic')
    if isinstance(tower, TimmModel):
        return TimmViT(tower, image_mean, image_std, position_interpolation)
    raise ValueError(
        f'expected a vision transformer of open_clip or timm, got {type(tower).__name__}'
    )
