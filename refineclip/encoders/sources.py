"""Where an open_clip model's config, weights, normalisation and tokenizer come from."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
from mmengine.logging import print_log
from open_clip.pretrained import download_pretrained_from_hf
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

FILE_SUFFIXES = ('.safetensors', '.pt', '.pth', '.bin')
LOCAL_DIR = 'local-dir:'
HF_HUB = 'hf-hub:'
_CONFIG_NAME = 'open_clip_config.json'
_WEIGHT_NAMES = ('open_clip_model.safetensors', 'open_clip_pytorch_model.bin', 'model.safetensors')

# Models that this package ships, by name: drawn worlds only. 'shipped' is the tag of their weights.
ASSETS = Path(__file__).resolve().parents[1] / 'assets'
SHIPPED_MODELS = ('microworld-clip',)
SHIPPED_TAG = 'shipped'

Triple = tuple[float, float, float]


@dataclass
class ModelSource:
    """All that is needed to build one open_clip model.

    Attributes:
        name: What the user asked for, for messages.
        config: open_clip model config.
        checkpoint: Weight file, or None.
        image_mean: Mean of the RGB channels, in [0, 1].
        image_std: Standard deviation of the RGB channels, in [0, 1].
        resize_mode: How the library fits a photo to the native size: ``'shortest'`` (and crop the
            centre), ``'longest'`` (and pad) or ``'squash'``.
        interpolation: How it resizes, ``'bicubic'`` or ``'bilinear'``.
        quick_gelu: The library says that these weights need quick GELU.
        position_interpolation: How these weights' own code resizes position embeddings, where the
            config says so beside ``model_cfg``; None leaves it to the family.
        tokenizer_factory: Makes the tokenizer, takes ``context_length``; None without text.
    """

    name: str
    config: dict[str, Any]
    checkpoint: str | None = None
    image_mean: Triple = open_clip.OPENAI_DATASET_MEAN
    image_std: Triple = open_clip.OPENAI_DATASET_STD
    resize_mode: str = 'shortest'
    interpolation: str = 'bicubic'
    quick_gelu: bool = False
    position_interpolation: str | None = None
    tokenizer_factory: Callable[..., Any] | None = None


def is_file_name(pretrained: str) -> bool:
    """Tell whether a ``pretrained`` value names a file rather than a tag.

    Raises:
        FileNotFoundError: If it does, and there is no such file.
    """
    path = Path(pretrained)
    looks_like_file = path.suffix in FILE_SUFFIXES or len(path.parts) > 1
    if looks_like_file and not path.is_file():
        raise FileNotFoundError(f'expected a weight file at {pretrained}, found none')
    return looks_like_file or path.is_file()


def resolve_source(model: str | dict[str, Any], pretrained: str | None) -> ModelSource:
    """Find config, weights and preprocessing of an open_clip model.

    Args:
        model: See :func:`refineclip.encoders.build.build_clip`.
        pretrained: See there.

    Raises:
        ValueError: If the model or the tag is unknown; the message lists what is close.
        FileNotFoundError: If a file or folder does not exist.
    """
    if pretrained is not None and pretrained.startswith(LOCAL_DIR):
        source = _from_folder(Path(pretrained.removeprefix(LOCAL_DIR)))
        if isinstance(model, str) and not model.startswith(LOCAL_DIR):
            config = open_clip.get_model_config(model)
            if config is not None and config != source.config:
                print_log(
                    f'{pretrained} has its own config, which replaces that of {model}', 'current'
                )
        return source
    if isinstance(model, str) and model in SHIPPED_MODELS:
        if pretrained == SHIPPED_TAG:
            return _from_folder(ASSETS / model)
        source = _from_config_file(ASSETS / model)
    elif isinstance(model, str) and model.startswith(LOCAL_DIR):
        source = _from_folder(Path(model.removeprefix(LOCAL_DIR)))
    elif isinstance(model, str) and model.startswith(HF_HUB):
        source = _from_hub(model)
    elif isinstance(model, str):
        return _from_name(model, pretrained)
    else:
        source = _from_config('inline config', model)
    if pretrained is not None:
        if not is_file_name(pretrained):
            raise ValueError(
                f'expected a weight file for {source.name}, got the tag {pretrained!r}'
            )
        source.checkpoint = pretrained
    return source


def _from_name(name: str, pretrained: str | None) -> ModelSource:
    """Resolve a built-in model name and a tag or file."""
    config = open_clip.get_model_config(name.replace('/', '-'))
    if config is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), n=5)
        raise ValueError(
            f"expected an open_clip model name, 'timm/NAME' or an inline config, got {name!r}; "
            f'close matches: {near}'
        )
    source = ModelSource(name, config, tokenizer_factory=partial(open_clip.get_tokenizer, name))
    tags = open_clip.list_pretrained_tags_by_model(name)
    means = {open_clip.get_pretrained_cfg(name, tag)['mean'] for tag in tags}
    if pretrained is not None and not is_file_name(pretrained):
        if pretrained not in tags:
            raise ValueError(
                f'expected a weight file or one of the tags {tags} of {name}, got {pretrained!r}'
            )
        tag_config = open_clip.get_pretrained_cfg(name, pretrained)
        source.checkpoint = open_clip.download_pretrained(tag_config)
        source.quick_gelu = tag_config.get('quick_gelu', False)
        source.image_mean, source.image_std = tag_config['mean'], tag_config['std']
        _take_resizing(source, tag_config)
    else:
        source.checkpoint = pretrained
        if len(means) == 1:  # SigLIP: the library knows the normalisation by the tag only
            tag_config = open_clip.get_pretrained_cfg(name, tags[0])
            source.image_mean, source.image_std = tag_config['mean'], tag_config['std']
            _take_resizing(source, tag_config)
    return source


def _take_resizing(source: ModelSource, config: dict[str, Any]) -> None:
    """Take how photos are resized from a preprocessing config of the library, if it says."""
    source.resize_mode = config.get('resize_mode', source.resize_mode)
    source.interpolation = config.get('interpolation', source.interpolation)


def _from_config(name: str, config: dict[str, Any]) -> ModelSource:
    """Resolve an inline config, bare or with preprocessing as in open_clip's json files."""
    preprocess = config.get('preprocess_cfg', {})
    model_config = config.get('model_cfg', config)
    needed = {'embed_dim', 'vision_cfg'} - set(model_config)
    if needed:
        raise ValueError(
            f'expected an open_clip config with {sorted(needed)}, got {sorted(config)}'
        )
    source = ModelSource(name, model_config)
    source.image_mean = tuple(preprocess.get('mean', source.image_mean))
    source.image_std = tuple(preprocess.get('std', source.image_std))
    _take_resizing(source, preprocess)
    source.position_interpolation = config.get('position_interpolation')
    if 'text_cfg' in model_config:
        source.tokenizer_factory = partial(_make_tokenizer, model_config['text_cfg'])
    return source


def _from_folder(folder: Path) -> ModelSource:
    """Resolve a folder that open_clip saved: a config and a weight file."""
    source = _from_config_file(folder)
    files = [folder / name for name in _WEIGHT_NAMES]
    files += sorted(file for file in folder.iterdir() if file.suffix in FILE_SUFFIXES)
    found = [file for file in files if file.is_file()]
    if not found:
        raise FileNotFoundError(
            f'expected weights in {folder}, e.g. {_WEIGHT_NAMES[0]}, found none'
        )
    source.checkpoint = str(found[0])
    return source


def _from_config_file(folder: Path) -> ModelSource:
    """Resolve the config in a folder that open_clip saved, without weights."""
    config_file = folder / _CONFIG_NAME
    if not config_file.is_file():
        raise FileNotFoundError(f'expected an open_clip folder with {config_file}, found none')
    source = _from_config(LOCAL_DIR + str(folder), json.loads(config_file.read_text()))
    text_config = source.config.get('text_cfg', {})
    merges = text_config.get('tokenizer_kwargs', {}).get('bpe_path')
    if merges is None:
        source.tokenizer_factory = partial(open_clip.get_tokenizer, source.name)
    else:  # relative to the folder; the library would look in the working directory
        kwargs = {**text_config['tokenizer_kwargs'], 'bpe_path': str(folder / merges)}
        source.tokenizer_factory = partial(
            _make_tokenizer, {**text_config, 'tokenizer_kwargs': kwargs}
        )
    return source


def _from_hub(name: str) -> ModelSource:
    """Resolve an ``hf-hub:`` name by download."""
    repository = name.removeprefix(HF_HUB)
    config_file = Path(download_pretrained_from_hf(repository, filename=_CONFIG_NAME))
    source = _from_config(name, json.loads(config_file.read_text()))
    source.checkpoint = download_pretrained_from_hf(repository)
    source.tokenizer_factory = partial(open_clip.get_tokenizer, name)
    return source


def _make_tokenizer(text_config: dict[str, Any], context_length: int | None = None) -> Any:
    """Make the tokenizer of an inline text config."""
    kwargs = dict(text_config.get('tokenizer_kwargs', {}), context_length=context_length)
    if text_config.get('hf_tokenizer_name'):
        return HFTokenizer(text_config['hf_tokenizer_name'], **kwargs)
    return SimpleTokenizer(**kwargs)
