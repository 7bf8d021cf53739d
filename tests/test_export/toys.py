"""Toy CLIPs in folders of open_clip, whose every weight has a value that shows."""

from __future__ import annotations

import json
import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file
from torch import nn

from tests.test_encoders.conftest import CONFIGS, SIGLIP, TEXT

SIGLIP_TEXT = dict(
    TEXT, vocab_size=60, width=32, no_causal_mask=True, proj_bias=True, pool_type='last'
)
NATIVE_SIGLIP = dict(
    embed_dim=32,
    vision_cfg=SIGLIP,
    text_cfg=dict(SIGLIP_TEXT, norm_kwargs=dict(eps=1e-6)),
    init_logit_bias=-10.0,
)


def randomize(module: nn.Module) -> nn.Module:
    """Give every parameter a value, so that none is hidden behind a zero or a small factor."""
    generator = torch.Generator().manual_seed(0)
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(noise * (0.3 if parameter.ndim > 1 else 0.1))
            if isinstance(owner, nn.LayerNorm) and name == 'weight':
                parameter.data += 1
    return module.eval()


def toy_folder(folder: Path, config: str | dict[str, Any]) -> str:
    """Write a toy; returns ``local-dir:FOLDER``, its model and its weights in one."""
    config = CONFIGS[config] if isinstance(config, str) else config
    folder.mkdir(parents=True)
    model = randomize(CustomTextCLIP(**config))
    save_file(model.state_dict(), folder / 'open_clip_model.safetensors')
    preprocessing = dict(mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25], resize_mode='squash')
    content = dict(model_cfg=config, preprocess_cfg=preprocessing)
    (folder / 'open_clip_config.json').write_text(json.dumps(content))
    return f'local-dir:{folder}'


def files(folder: Path) -> set[str]:
    """Names of the files in a folder."""
    return {path.name for path in folder.iterdir()}


def assert_no_pickle(folder: Path) -> None:
    """Open every file and look: nothing that ``pickle`` or ``torch.load`` would read."""
    paths = [path for path in folder.rglob('*') if path.is_file()]
    assert paths
    for path in paths:
        assert not zipfile.is_zipfile(path), path.name
        content = path.read_bytes()
        for read in (pickle.loads, lambda it: torch.load(BytesIO(it), weights_only=False)):
            with pytest.raises(Exception):  # noqa: B017, PT011  (bytes that are no pickle raise any)
                read(content)
