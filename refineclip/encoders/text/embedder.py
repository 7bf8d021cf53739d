"""Class names to text embeddings: through a CLIP text tower, from a cache, or from a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..weights.checkpoint_file import read_array, read_content
from ..weights.weights_hash import weights_hash
from ..weights.whole_files import warn_made_anew, write_whole
from .name_files import read_names
from .prompt_encoding import encode_prompts
from .templates import fill_template, get_templates

_BATCH_PROMPTS = 256


class TextCLIP(Protocol):
    """What :class:`TextEmbedder` needs of a model; :class:`DenseCLIP` has it."""

    text: nn.Module | None

    @property
    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """Function from P strings to token ids (P, T)."""
        ...


class TextEmbedder:
    """Embed class names with the text tower of a CLIP.

    A name's embedding is the mean over templates of L2-normalised prompt embeddings, normalised;
    with synonyms, the mean of those over the synonyms, normalised again.

    Args:
        clip: Model with ``text`` (tokens (P, T) -> (P, D)) and ``tokenizer``.
        templates: 'vild' (region benchmarks), 'photo', 'imagenet', or a list of format strings.
        cache_dir: Folder where results are kept as safetensors, keyed by a hash of (weights, names,
            templates); None keeps nothing.

    Raises:
        ValueError: The model has no text tower, or the templates are unknown.
    """

    def __init__(
        self,
        clip: TextCLIP,
        templates: str | Sequence[str] = 'vild',
        cache_dir: str | Path | None = None,
    ) -> None:
        if clip.text is None:
            raise ValueError(
                'TextEmbedder: expected a model with a text tower, got a vision-only one. Use a '
                'CLIP, or load embeddings from a file (load_text_embeddings).'
            )
        self.text, self.tokenizer = clip.text, clip.tokenizer
        self.templates = get_templates(templates)
        self.cache_dir = None if cache_dir is None else Path(cache_dir)

    def embed(self, names: Sequence[str]) -> Tensor:
        """Embed C names.

        Args:
            names: Class names; synonyms of one class are separated by ';'.

        Returns:
            (C, D) float32 on the CPU, L2-normalised, without gradient.

        Raises:
            ValueError: There is no name, or one is blank.
        """
        if isinstance(names, str):
            raise ValueError(f'names: expected a list of class names, got the text {names!r}.')
        synonyms = [[part for part in name.split(';') if part.strip()] for name in names]
        if not synonyms or not all(synonyms):
            raise ValueError(f'names: expected non-empty class names, got {list(names)}.')
        path = None if self.cache_dir is None else self.cache_dir / self._cache_name(names)
        if path is not None and path.exists():
            try:
                found = load_text_embeddings(path, names)[0]
            except ValueError as error:
                warn_made_anew(str(error))
            else:
                print_log(f'Text embeddings of {len(names)} names read from {path}', 'current')
                return found
        owner = torch.tensor([row for row, group in enumerate(synonyms) for _ in group])
        each = self._embed_all([synonym for group in synonyms for synonym in group])
        # Normalising makes the sum of a group as good as its mean.
        summed = torch.zeros(len(names), each.shape[1]).index_add_(0, owner, each)
        embeddings = F.normalize(summed, dim=-1)
        if path is not None:
            save_text_embeddings(path, embeddings, names)
        return embeddings

    @torch.no_grad()
    def _embed_all(self, names: list[str]) -> Tensor:
        """Average (len(names), D) over templates; float32, L2-normalised, on the CPU."""
        was_training = self.text.training
        self.text.eval()
        device = next(self.text.parameters()).device
        rows = []
        step = max(1, _BATCH_PROMPTS // len(self.templates))
        for start in range(0, len(names), step):
            part = names[start : start + step]
            prompts = [
                fill_template(template, name) for name in part for template in self.templates
            ]
            embedded = encode_prompts(self.text, self.tokenizer(prompts).to(device))
            embedded = F.normalize(embedded.float(), dim=-1)
            mean = embedded.view(len(part), len(self.templates), -1).mean(dim=1)
            rows.append(F.normalize(mean, dim=-1).cpu())
        self.text.train(was_training)
        return torch.cat(rows)

    def _cache_name(self, names: Sequence[str]) -> str:
        key = json.dumps(
            [
                weights_hash(self.text),
                type(self.tokenizer).__name__,
                getattr(self.tokenizer, 'context_length', None),
                list(names),
                self.templates,
            ]
        )
        return f'text_{hashlib.sha256(key.encode()).hexdigest()}.safetensors'


def save_text_embeddings(path: str | Path, embeddings: Tensor, names: Sequence[str]) -> None:
    """Write (C, D) embeddings with their names as safetensors, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {'embeddings': embeddings.contiguous()}
    metadata = {'names': json.dumps(list(names))}
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def load_text_embeddings(
    path: str | Path, names: Sequence[str] | str | Path | None = None, dim: int | None = None
) -> tuple[Tensor, list[str]]:
    """Read precomputed text embeddings.

    Args:
        path: ``.npy`` (C, D); ``.pt`` or ``.pth`` with a (C, D) tensor or a dict of ``embeddings``
            and ``names``; ``.safetensors`` with one tensor, and names in its metadata if this
            package wrote it.
        names: The C class names, or a file of them; None takes those in the file, or in a file of
            the same stem beside it (``.txt`` one per line, ``.json`` list).
        dim: Expected D; None accepts any.

    Returns:
        (C, D) float32, L2-normalised, and the names, an empty list if none are known.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Unknown suffix, wrong shape, wrong number of names, non-finite or zero rows.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'Expected a file of text embeddings, got {path}, which is no file.'
        )
    embeddings, own_names = _read_embeddings(path)
    if names is None:
        beside = [path.with_suffix(suffix) for suffix in ('.txt', '.json')]
        names = own_names or next((file for file in beside if file.is_file()), [])
    names = read_names(names) if isinstance(names, str | Path) else list(names)
    shape = tuple(embeddings.shape)
    if len(shape) != 2 or 0 in shape or (dim is not None and shape[1] != dim):
        raise ValueError(f'{path}: expected a matrix (classes, {dim or "D"}), got shape {shape}.')
    if names and len(names) != len(embeddings):
        raise ValueError(
            f'{path}: expected one row per name, got {len(embeddings)} rows and {len(names)} names.'
        )
    embeddings = embeddings.float()
    bad = ~embeddings.isfinite().all(dim=1) | (embeddings.abs().sum(dim=1) == 0)
    if bad.any():
        raise ValueError(
            f'{path}: expected finite rows that are not zero, got {int(bad.sum())} others (first: '
            f'row {int(bad.nonzero()[0])}).'
        )
    return F.normalize(embeddings, dim=-1), names


def _read_embeddings(path: Path) -> tuple[Tensor, list[str]]:
    """Return the tensor of a file, and the names that it carries itself."""
    if path.suffix == '.npy':
        return read_array(path), []
    if path.suffix in ('.pt', '.pth'):
        content = read_content(path)
        if isinstance(content, Tensor):
            return content, []
        if isinstance(content, dict) and isinstance(content.get('embeddings'), Tensor):
            return content['embeddings'], list(content.get('names', []))
        raise ValueError(
            f"{path}: expected a tensor or a dict with 'embeddings', got {type(content).__name__}."
        )
    if path.suffix == '.safetensors':
        content = read_content(path)
        key = 'embeddings' if 'embeddings' in content else next(iter(content), None)
        if key is None or (len(content) > 1 and key != 'embeddings'):
            found = list(content)[:5]
            raise ValueError(f"{path}: expected one tensor or 'embeddings', got {found}.")
        return content[key], _stored_names(path)
    raise ValueError(f'{path}: expected .npy, .pt, .pth or .safetensors, got {path.suffix!r}.')


def _stored_names(path: Path) -> list[str]:
    """Return the names in the metadata of a safetensors file, if it is one that has them."""
    try:
        with safe_open(path, framework='pt') as file:
            names = json.loads((file.metadata() or {}).get('names', '[]'))
    except (SafetensorError, json.JSONDecodeError):
        return []
    return names if isinstance(names, list) else []
