"""The folder of an export: whole or absent, without pickles, and recognised when it is replaced."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open

RECORD = 'refineclip_export.json'
TEXTS = ('.json', '.txt')
Result = TypeVar('Result')


def check_target(out: Path, force: bool) -> None:
    """Refuse a folder that exists, unless it is an export that may be replaced.

    Raises:
        ValueError: Saying what is there, and what to do.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not force:
        raise ValueError(
            f'--out: expected a new folder, got {out}, which exists; --force replaces an earlier '
            'export'
        )
    if not out.is_dir() or out.is_symlink():
        raise ValueError(f'--out: expected a folder to replace, got {out}, which is none')
    if not (out / RECORD).is_file() and any(out.iterdir()):
        raise ValueError(
            f'--out: expected an export of before to replace, got {out} without {RECORD}: it holds '
            'something else; choose another folder, or remove it yourself'
        )


def write_folder(out: Path, force: bool, fill: Callable[[Path], Result]) -> Result:
    """Make a folder whole or not at all.

    Args:
        out: The folder.
        force: Replace an earlier export.
        fill: Fills the empty folder that it is given. What it raises passes on, and nothing is
            left.

    Returns:
        What ``fill`` returned.

    Raises:
        ValueError: If the folder exists, or a file in it could hold a pickle.
    """
    check_target(out, force)
    out.parent.mkdir(parents=True, exist_ok=True)
    hidden = f'.{out.name}.{uuid4().hex}'
    temporary, replaced = out.with_name(f'{hidden}.tmp'), out.with_name(f'{hidden}.old')
    try:
        temporary.mkdir()
        result = fill(temporary)
        check_no_pickle(temporary)
        if out.exists():
            out.replace(replaced)
        temporary.replace(out)
    except BaseException:
        if replaced.exists() and not out.exists():
            replaced.replace(out)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
    return result


def write_record(folder: Path, content: dict[str, Any]) -> None:
    """Write what was exported, from what, and how near it came."""
    path = folder / RECORD
    path.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')


def check_no_pickle(folder: Path) -> None:
    """Open every file of a folder as what it should be: none of these kinds can run code.

    Raises:
        ValueError: If one is of another kind.
    """
    for path in sorted(folder.rglob('*')):
        if path.is_file() and not _is_plain(path):
            raise ValueError(
                'expected safetensors, ONNX and text files only in an export, got '
                f'{path.name}, which could hold a pickle'
            )


def _is_plain(path: Path) -> bool:
    try:
        if path.suffix == '.safetensors':
            with safe_open(path, framework='pt'):
                return True
        if path.suffix == '.onnx':
            return _is_graph(path)
        if path.suffix == '.data':  # of a graph above 2 GB: bare numbers, which the graph points to
            return path.with_suffix('').suffix == '.onnx'
        if path.name == 'merges.txt.gz':
            return path.read_bytes().startswith(b'\x1f\x8b')
        if path.suffix in ('.model', '.spm'):  # sentencepiece: protobuf
            return not _is_pickled(path)
        path.read_bytes().decode('utf-8')
    except (SafetensorError, UnicodeDecodeError):
        return False
    return path.suffix in TEXTS


def _is_graph(path: Path) -> bool:
    import onnx  # which the other formats do without

    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError:
        return False
    return True


def _is_pickled(path: Path) -> bool:
    with path.open('rb') as file:
        start = file.read(2)
    return start[:1] == b'\x80' or start == b'PK'


def full_precision(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors as safetensors want them: contiguous, and no two in one memory."""
    return {key: tensor.detach().clone().contiguous() for key, tensor in state.items()}
