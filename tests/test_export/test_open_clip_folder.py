from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from refineclip.encoders import RefinerCLIP, build_clip
from refineclip.export.compare import drawn_picture, require_equal
from refineclip.export.open_clip_folder import export_open_clip
from refineclip.export.subject import load_subject

from .toys import assert_no_pickle, files, toy_folder


@pytest.mark.parametrize('name', ['open_clip', 'quick_gelu', 'eva02', 'siglip', 'pe_core'])
def test_open_clip_loads_what_was_refined(name: str, tmp_path: Path) -> None:
    model = toy_folder(tmp_path / 'toy', name)
    refined = RefinerCLIP(model, model)
    for parameter in refined.visual.blocks[-1].parameters():
        parameter.data.mul_(1.5)
    torch.save(refined.state_dict(), tmp_path / 'refined.pth')
    out = tmp_path / 'out'
    out.mkdir()
    subject = load_subject(model, str(tmp_path / 'refined.pth'), model)
    require_equal(export_open_clip(subject, out, drawn_picture()))
    assert files(out) == {'open_clip_config.json', 'open_clip_model.safetensors'}
    assert_no_pickle(out)

    library, _, preprocess = open_clip.create_model_and_transforms(f'local-dir:{out}')
    image = preprocess(drawn_picture())[None]
    with torch.no_grad():
        expected = refined.eval().image_embedding(image)
        torch.testing.assert_close(library.eval().encode_image(image), expected)
    assert preprocess.transforms[-1].mean == [0.4, 0.5, 0.6]
    own = build_clip(f'local-dir:{out}')
    assert torch.equal(own.visual.dense(image), refined.visual.dense(image))
    assert own.visual.position_interpolation == refined.visual.position_interpolation


def test_float16_is_compared_with_the_rounded_weights(tmp_path: Path) -> None:
    model = toy_folder(tmp_path / 'toy', 'open_clip')
    out = tmp_path / 'out'
    out.mkdir()
    require_equal(export_open_clip(load_subject(model, model), out, drawn_picture(), half=True))
    state = load_file(out / 'open_clip_model.safetensors')
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    before = load_file(tmp_path / 'toy' / 'open_clip_model.safetensors')
    assert all(torch.equal(state[key], before[key].half()) for key in before)


def test_tokenizers_of_the_folder_go_along(tmp_path: Path) -> None:
    out = tmp_path / 'out'
    out.mkdir()
    export_open_clip(load_subject('microworld-clip', 'shipped'), out, drawn_picture())
    assert 'merges.txt.gz' in files(out)
    texts = ['a fish on sand', 'a boat']
    expected = build_clip('microworld-clip', 'shipped').tokenizer(texts)
    # As docs/export.md says: open_clip looks for the merges in the working directory.
    tokenizer = open_clip.get_tokenizer(f'local-dir:{out}', bpe_path=str(out / 'merges.txt.gz'))
    assert torch.equal(tokenizer(texts), expected)
    assert torch.equal(build_clip(f'local-dir:{out}').tokenizer(texts), expected)


def test_the_default_tokenizer_needs_no_file(tmp_path: Path) -> None:
    model = toy_folder(tmp_path / 'toy', 'open_clip')
    out = tmp_path / 'out'
    out.mkdir()
    export_open_clip(load_subject(model, model), out, drawn_picture())
    tokens = open_clip.get_tokenizer(f'local-dir:{out}')(['a zebra'])
    assert tokens.shape == (1, 16)
    assert torch.equal(tokens, build_clip(model).tokenizer(['a zebra']))
    config = json.loads((out / 'open_clip_config.json').read_text())['model_cfg']
    assert config['custom_text'] is True


def test_a_tower_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='got timm/test_vit, an image tower of timm'):
        export_open_clip(load_subject('timm/test_vit', 'random'), tmp_path, drawn_picture())
