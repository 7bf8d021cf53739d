"""Rows of an evaluation: encoders from short descriptions of where their weights are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

from refineclip.encoders.refiner_clip import RefinerCLIP
from refineclip.encoders.sources import HF_HUB, LOCAL_DIR, is_file_name, resolve_source
from refineclip.encoders.towers.dense_vit import DenseViT
from refineclip.encoders.weights.checkpoint_file import read_checkpoint
from refineclip.encoders.weights.key_layouts import State
from refineclip.encoders.weights.loading import has_submodule, load_submodule
from refineclip.encoders.weights.weights_hash import weights_hash

from .references import ColourEncoder, TappedEncoder

RANDOM, COLOUR = 'random', 'colour'

# Keys of this package's checkpoints; no library's file has them.
_OWN_VISUAL = 'visual.model.'
_REFINER = 'refiner.'
_STUDENT = 'student.'

# What a wrong spec or file raises, with a sentence.
ROW_ERRORS = (ValueError, TypeError, OSError, ModuleNotFoundError)


class EncoderLoader:
    """Builds the encoders of one architecture.

    Args:
        model: Name or config of the architecture, see :class:`RefinerCLIP`.
        dense_mode: What the last block does for dense maps.
        model_kwargs: Extra arguments of the library's model.
        refiner_input: ``input`` that the Refiners were trained with; a checkpoint's weights do not
            tell.
        seed: Seed of ``random``.
        position_interpolation: See :class:`RefinerCLIP`.
    """

    def __init__(
        self,
        model: str | dict[str, Any],
        dense_mode: str = 'value',
        model_kwargs: dict[str, Any] | None = None,
        refiner_input: str = 'block',
        seed: int = 0,
        position_interpolation: str | None = None,
    ) -> None:
        self.model = model
        self.dense_mode = dense_mode
        self.model_kwargs = model_kwargs
        self.refiner_input = refiner_input
        self.seed = seed
        self.position_interpolation = position_interpolation

    def load(self, spec: str) -> nn.Module:
        """Build one row; see :func:`load_encoders`."""
        base, block = split_tap(spec)
        if base == COLOUR:
            if block is not None:
                raise ValueError(f'expected {COLOUR!r} without a block, it has none, got {spec!r}')
            visual = self._random().visual
            return ColourEncoder(visual.patch_size, visual.image_mean, visual.image_std)
        encoder = self._random() if base == RANDOM else self._from_weights(base)
        if block is None:
            return encoder
        if encoder.refiner is not None:
            raise ValueError(
                f'expected weights without a Refiner before @{block}, got a stage-1 checkpoint: '
                f'{base}; tap the frozen encoder'
            )
        return TappedEncoder(encoder.visual, block)

    def _build(
        self, model: str | dict[str, Any], pretrained: str | None, refiner: dict | None = None
    ) -> RefinerCLIP:
        return RefinerCLIP(
            model,
            pretrained,
            model_kwargs=self.model_kwargs,
            dense_mode=self.dense_mode,
            refiner=refiner,
            position_interpolation=self.position_interpolation,
        )

    def _random(self) -> RefinerCLIP:
        model = self.model
        if isinstance(model, str) and model.startswith((LOCAL_DIR, HF_HUB)):
            # Such a name brings its weights along, and only its config is wanted.
            source = resolve_source(model, None)
            normalization = {'mean': source.image_mean, 'std': source.image_std}
            model = {
                'model_cfg': source.config,
                'preprocess_cfg': normalization,
                'position_interpolation': source.position_interpolation,
            }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self._build(model, None)

    def _from_weights(self, spec: str) -> RefinerCLIP:
        if spec.startswith(LOCAL_DIR) or not is_file_name(spec):
            return self._build(self.model, spec)
        state = read_checkpoint(spec)
        if not has_submodule(state, _OWN_VISUAL):
            return self._build(self.model, spec)
        # The student of stage 2 beside its teacher, whose Refiner is not this row's.
        staged = any(key.startswith(_STUDENT) for key in state)
        owner = _STUDENT if staged else ''
        refiner = None
        if has_submodule(state, owner + _REFINER):
            num_blocks = count_refiner_blocks(state, owner)
            refiner = dict(num_blocks=num_blocks, input=self.refiner_input)
        encoder = self._build(self.model, None, refiner)
        load_submodule(encoder.visual, spec, f'{owner}visual.', state)
        if encoder.refiner is not None:
            load_submodule(encoder.refiner, spec, f'{owner}{_REFINER}', state)
            print_log(f'{spec}: refined row, {refiner} (from its keys)', logger='current')
        return encoder


def load_encoders(
    specs: Mapping[str, str],
    model: str | dict[str, Any],
    dense_mode: str = 'value',
    model_kwargs: dict[str, Any] | None = None,
    refiner_input: str = 'block',
    seed: int = 0,
    device: str | torch.device = 'cpu',
    position_interpolation: str | None = None,
    failed: dict[str, Exception] | None = None,
) -> dict[str, Any]:
    """Build the encoders that an evaluation compares.

    Args:
        specs: Row name -> where its weights are: a weight file, a tag or ``local-dir:FOLDER`` of
            the library; a ``refined_*.pth``, a checkpoint of stage 2 (its student) or of stage 1 (a
            refined row: its ``refiner.*`` keys are used) of this package; ``random``; ``colour``
            (mean colour of each patch, no network). ``SPEC@N`` takes the map after block N
            (0-based) instead of the last block's.
        model: Name or config of the architecture, see :class:`RefinerCLIP`. OpenAI's weights need
            the ``-quickgelu`` name if none of the rows is a file or tag of the library that says
            so.
        dense_mode: What the last block does for dense maps.
        model_kwargs: Extra arguments of the library's model.
        refiner_input: ``input`` that the Refiners were trained with.
        seed: Seed of ``random``.
        device: Where the encoders go.
        position_interpolation: See :class:`RefinerCLIP`.
        failed: Filled with the rows that do not load and why, and the others are returned; None
            raises.

    Returns:
        Row name -> encoder in eval mode without gradients, with ``dense``, ``image_embedding``,
        ``image_mean`` and ``image_std``. Rows of equal weights share one module.

    Raises:
        ValueError: If a spec or its weights do not fit the architecture.
        FileNotFoundError: If a file does not exist.
    """
    if not specs:
        raise ValueError('expected one or more NAME=CHECKPOINT, got none')
    if failed is None:
        for spec in specs.values():  # before any network is built
            base, _ = split_tap(spec)
            if base not in (RANDOM, COLOUR) and not base.startswith(LOCAL_DIR):
                is_file_name(base)
    loader = EncoderLoader(
        model, dense_mode, model_kwargs, refiner_input, seed, position_interpolation
    )
    encoders: dict[str, nn.Module] = {}
    for name, spec in specs.items():
        try:
            encoder = loader.load(spec)
            _check_one_architecture({**encoders, name: encoder})
        except ROW_ERRORS as error:
            if failed is None:
                raise
            failed[name] = error
        else:
            encoders[name] = encoder
    _share_weights(encoders)
    return {
        name: encoder.requires_grad_(False).eval().to(device) for name, encoder in encoders.items()
    }


def is_own_checkpoint(spec: str) -> bool:
    """Tell whether a spec is a file that this package trained, which has no text tower."""
    if spec.startswith(LOCAL_DIR) or not is_file_name(spec):
        return False
    return has_submodule(read_checkpoint(spec), _OWN_VISUAL)


def split_tap(spec: str) -> tuple[str, int | None]:
    """Split ``SPEC@N`` into SPEC and N; N is None where there is no ``@N``."""
    found = re.fullmatch(r'(.+)@(\d+)', spec)
    return (spec, None) if found is None else (found[1], int(found[2]))


def count_refiner_blocks(state: State, owner: str = '') -> int:
    """Number of blocks of the Refiner whose keys a checkpoint holds."""
    pattern = re.compile(rf'(?:.*\.)?{re.escape(owner + _REFINER)}blocks\.(\d+)\.')
    return 1 + max(int(found[1]) for key in state if (found := pattern.match(key)))


def _check_one_architecture(encoders: Mapping[str, nn.Module]) -> None:
    """Refuse rows that would differ by more than weights, as with and without quick GELU."""
    layers = {
        name: repr(encoder.visual)
        for name, encoder in encoders.items()
        if hasattr(encoder, 'visual')
    }
    first = next(iter(layers), None)
    for name, layer in layers.items():
        if first is not None and layer != layers[first]:
            raise ValueError(
                f'expected rows of one architecture, got other layers in {name!r} than in '
                f'{first!r}; OpenAI weights use quick GELU, which a refined checkpoint does not '
                'tell: take the -quickgelu name of the model'
            )


def _share_weights(encoders: Mapping[str, nn.Module]) -> None:
    """Give rows whose visual towers are equal one and the same module."""
    towers: dict[str, DenseViT] = {}
    for encoder in encoders.values():
        if isinstance(encoder, RefinerCLIP | TappedEncoder):
            key = weights_hash(encoder.visual)
            encoder.visual = towers.setdefault(key, encoder.visual)
