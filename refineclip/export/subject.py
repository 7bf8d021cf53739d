"""What is exported: an encoder by the words of ``evaluate``, and the text tower beside it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from refineclip.encoders.build import TIMM_PREFIX, build_clip
from refineclip.encoders.dense_clip import DenseCLIP
from refineclip.encoders.refiner_clip import RefinerCLIP
from refineclip.encoders.sources import (
    ASSETS,
    LOCAL_DIR,
    SHIPPED_MODELS,
    ModelSource,
    resolve_source,
)
from refineclip.encoders.towers.dense_vit import DenseViT
from refineclip.encoders.weights.checkpoint_file import read_checkpoint
from refineclip.evaluation.encoders.rows import RANDOM, is_own_checkpoint, load_encoders


@dataclass
class Subject:
    """An encoder on its way out.

    Attributes:
        model: Name of the architecture.
        weights: Where the weights came from.
        encoder: In eval mode, without gradients; with a Refiner if the weights have one.
        text_clip: A CLIP whose text tower and temperature go along, or None.
    """

    model: str
    weights: str
    encoder: RefinerCLIP
    text_clip: DenseCLIP | None

    def folded(self) -> DenseViT:
        """The image tower alone, a Refiner's blocks in place of its last ones.

        Its dense map is the refined one. Its image embedding passes the Refiner's blocks as well,
        which were not trained for it.

        Raises:
            ValueError: If the Refiner stands behind the whole tower.
        """
        visual, refiner = self.encoder.visual, self.encoder.refiner
        if refiner is None:
            return visual
        if refiner.input == 'output':
            raise ValueError(
                "expected a Refiner with input='block', whose blocks take the place of the "
                "tower's last ones, got input='output', a tower of more blocks; export it as onnx"
            )
        visual = copy.deepcopy(visual)
        last = visual.blocks[-refiner.num_blocks :]
        for own, refined in zip(last, refiner.blocks, strict=True):
            own.load_state_dict(refined.state_dict())
        return visual

    def source(self) -> ModelSource:
        """Config and preprocessing of open_clip.

        Raises:
            ValueError: If the tower is timm's alone.
        """
        if self.model.startswith(TIMM_PREFIX):
            raise ValueError(
                f'expected a model of open_clip, which has both towers, got {self.model}, an image '
                'tower of timm; export it as timm, onnx or hf'
            )
        return resolve_source(self.model, None)

    def asset_folder(self) -> Path | None:
        """Folder that the config of the model came from, if it is one on this machine."""
        if self.model in SHIPPED_MODELS:
            return ASSETS / self.model
        if self.model.startswith(LOCAL_DIR):
            return Path(self.model.removeprefix(LOCAL_DIR))
        return None

    def with_text(self) -> DenseCLIP:
        """The CLIP whose text tower goes along.

        Raises:
            ValueError: If there is none.
        """
        if self.text_clip is None:
            raise ValueError(
                f'expected a text tower beside the image tower, got none in {self.weights}; name '
                'its weights with --text-pretrained (a tag or file of the library), or export the '
                'image tower alone as onnx or timm'
            )
        return self.text_clip

    def folded_clip(self) -> DenseCLIP:
        """Both towers, the image tower as :meth:`folded` gives it.

        Raises:
            ValueError: If there is no text tower, or the Refiner does not fit in.
        """
        towers = self.with_text()
        return DenseCLIP(
            self.folded(),
            towers.text,
            towers.logit_scale,
            towers.logit_bias,
            towers.tokenizer_factory,
        )


def load_subject(
    model: str,
    weights: str,
    text_weights: str | None = None,
    dense_mode: str = 'value',
    refiner_input: str = 'block',
    text: bool = True,
) -> Subject:
    """Build what is to be exported.

    Args:
        model: Architecture, see :func:`~refineclip.encoders.build.build_clip`.
        weights: A tag, file or ``local-dir:`` folder of a library, ``random``, or what this package
            trained: ``refined_*.pth``, a checkpoint of either stage, of a pre-training.
        text_weights: Those of the text tower; None takes them from ``weights``, if they are there.
        dense_mode: What the last block does for dense maps.
        refiner_input: ``input`` that a Refiner in the weights was trained with.
        text: Look for a text tower.

    Raises:
        ValueError: If the weights do not fit, or text weights were named for a model without.
        FileNotFoundError: If a file does not exist.
    """
    has_text = not model.startswith(TIMM_PREFIX)
    if text_weights is not None and not has_text:
        raise ValueError(f'--text-pretrained: expected a model with text, got {model} without')
    loaded = load_encoders({'export': weights}, model, dense_mode, refiner_input=refiner_input)
    encoder = loaded['export']
    if not isinstance(encoder, RefinerCLIP):
        raise ValueError(f'expected weights of an encoder, got {weights!r}; a tap has no file')
    clip = None
    if text and has_text and (text_weights is not None or _brings_text(weights)):
        clip = _text_clip(model, text_weights or weights)
    return Subject(model, weights, encoder, clip)


def _text_clip(model: str, weights: str) -> DenseCLIP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = build_clip(model, None if weights == RANDOM else weights)
    return clip.requires_grad_(False).eval()


def _brings_text(weights: str) -> bool:
    """Whether weights hold a text tower; those of a library are taken to."""
    if weights == RANDOM or not is_own_checkpoint(weights):
        return True
    state = read_checkpoint(weights)
    owners = {key.partition('visual.model.')[0] for key in state if 'visual.model.' in key}
    return any(f'{owner}text.transformer' in key for owner in owners for key in state)


def sample_tokens(text: nn.Module, context: int, count: int = 3) -> Tensor:
    """Prompts (count, context) of random tokens, each with its end where a tokenizer puts it."""
    vocabulary = token_count(text)
    generator = torch.Generator().manual_seed(0)
    end = end_token(text)
    tokens = torch.randint(1, vocabulary - 2, (count, context), generator=generator)
    for row, length in enumerate(torch.randint(1, context, (count,), generator=generator).tolist()):
        tokens[row, length] = end
        tokens[row, length + 1 :] = 0
    return tokens


def token_count(text: nn.Module) -> int:
    """Entries of a text tower's vocabulary."""
    embeddings = [layer for layer in text.modules() if isinstance(layer, nn.Embedding)]
    return max(layer.num_embeddings for layer in embeddings)


def end_token(text: nn.Module) -> int:
    """Token that ends a prompt: the one that the tower looks for, or the last of the vocabulary."""
    if getattr(text, 'pool_type', None) == 'eos':
        return int(text.eos_id)  # type: ignore[arg-type]
    return token_count(text) - 1
