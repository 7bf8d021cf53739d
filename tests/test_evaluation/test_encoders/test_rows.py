from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from refineclip.encoders import RefinerCLIP, build_clip
from refineclip.evaluation.encoders import is_own_checkpoint, load_encoders, split_tap
from refineclip.evaluation.encoders.references import ColourEncoder, TappedEncoder
from refineclip.evaluation.encoders.shared_trunk import SharedTrunk

TOWER: dict[str, Any] = dict(
    embed_dim=12,
    vision_cfg=dict(image_size=32, layers=4, width=16, head_width=8, patch_size=8),
    text_cfg=dict(context_length=8, vocab_size=64, width=16, heads=2, layers=1),
)
IMAGES = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) - 0.5


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Every kind of checkpoint, with what it must give in ``expected``."""
    library = build_clip(TOWER)
    torch.save(
        {k.replace('visual.model.', 'visual.'): v for k, v in library.state_dict().items()},
        tmp_path / 'library.pt',
    )
    stage1 = RefinerCLIP(TOWER, refiner=dict(num_blocks=2))
    stage1.visual.load_state_dict(library.visual.state_dict())
    for parameter in stage1.refiner.parameters():
        parameter.data += 0.1
    torch.save(
        {'state_dict': {f'encoder.{k}': v for k, v in stage1.state_dict().items()}},
        tmp_path / 'stage1.pth',
    )
    student = RefinerCLIP(TOWER)
    torch.save({'state_dict': student.state_dict()}, tmp_path / 'refined_epoch_1.pth')
    both = {f'student.{k}': v for k, v in student.state_dict().items()}
    both |= {f'teacher.{k}': v for k, v in stage1.state_dict().items()}
    torch.save({'state_dict': both}, tmp_path / 'stage2.pth')
    expected = {'library': library.visual, 'stage1': stage1, 'student': student}
    maps = {name: one.eval().dense(IMAGES).detach() for name, one in expected.items()}
    torch.save(maps, tmp_path / 'expected.pt')
    return {path.stem: str(path) for path in tmp_path.iterdir()}


def test_every_kind_of_row(files: dict[str, str]) -> None:
    expected = torch.load(files['expected'])
    encoders = load_encoders(
        {
            'frozen': files['library'],
            'refiner': files['stage1'],
            'refined': files['refined_epoch_1'],
            'stage 2': files['stage2'],
            'tapped': files['library'] + '@1',
            'random': 'random',
            'colour': 'colour',
        },
        TOWER,
        seed=5,  # the fixture draws from seed 0
    )
    maps = {name: encoder.dense(IMAGES) for name, encoder in encoders.items()}
    for name, source in [
        ('frozen', 'library'),
        ('refiner', 'stage1'),
        ('refined', 'student'),
        ('stage 2', 'student'),
    ]:
        torch.testing.assert_close(maps[name], expected[source], msg=name)
    assert encoders['refiner'].refiner.num_blocks == 2
    assert encoders['stage 2'].refiner is None
    assert isinstance(encoders['tapped'], TappedEncoder)
    assert isinstance(encoders['colour'], ColourEncoder)
    assert (maps['random'] - maps['frozen']).abs().max() > 1e-3
    assert not any(p.requires_grad for e in encoders.values() for p in e.parameters())
    for encoder in encoders.values():
        assert not encoder.training
        assert len(encoder.image_mean) == len(encoder.image_std) == 3


def test_rows_of_equal_weights_share_a_trunk_that_runs_once(files: dict[str, str]) -> None:
    library = files['library']
    encoders = load_encoders(
        {
            'frozen': library,
            'refiner': files['stage1'],
            'tapped': library + '@0',
            'refined': files['refined_epoch_1'],
            'colour': 'colour',
        },
        TOWER,
    )
    visual = encoders['frozen'].visual
    assert encoders['refiner'].visual is visual
    assert encoders['tapped'].visual is visual
    assert encoders['refined'].visual is not visual
    calls = {'block 0': 0}
    visual.blocks[0].register_forward_hook(
        lambda *_: calls.update({'block 0': calls['block 0'] + 1})
    )
    alone = {name: encoder.dense(IMAGES) for name, encoder in encoders.items()}
    count = calls['block 0']
    shared = SharedTrunk(encoders).dense(IMAGES)
    assert list(shared) == list(encoders)
    for name, expected in alone.items():
        torch.testing.assert_close(shared[name], expected, msg=name)
    embedded = SharedTrunk(encoders).image_embedding(IMAGES)
    for name, encoder in encoders.items():
        torch.testing.assert_close(embedded[name], encoder.image_embedding(IMAGES), msg=name)
    assert count in (0, 3)  # hooks see the call only where the library's forward is used
    if count:
        assert calls['block 0'] == count + 1 + 1 + 3


def test_tapped_block_is_that_of_the_protocol(files: dict[str, str]) -> None:
    tapped = load_encoders({'a': files['library'] + '@2'}, TOWER)['a']
    tokens, grid = tapped.visual.embed(IMAGES)
    tokens = tapped.visual.run(tokens, grid, 0, 3)
    expected = tapped.visual.to_map(tapped.visual.project(tokens), grid)
    torch.testing.assert_close(tapped.dense(IMAGES), expected)
    last = load_encoders({'a': files['library'] + '@3'}, TOWER)['a']
    torch.testing.assert_close(last.dense(IMAGES), last.visual.dense(IMAGES, 'plain'))


def test_random_rows_repeat_and_leave_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    first = load_encoders({'a': 'random'}, TOWER)['a'].dense(IMAGES)
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(load_encoders({'a': 'random'}, TOWER)['a'].dense(IMAGES), first)
    other = load_encoders({'a': 'random'}, TOWER, seed=1)['a'].dense(IMAGES)
    assert (other - first).abs().max() > 1e-3


def test_random_row_of_a_folder_takes_its_config_only(tmp_path: Path) -> None:
    import json

    library = build_clip(TOWER)
    preprocess = {'mean': [0.1, 0.2, 0.3], 'std': [0.4, 0.5, 0.6]}
    (tmp_path / 'open_clip_config.json').write_text(
        json.dumps({'model_cfg': TOWER, 'preprocess_cfg': preprocess})
    )
    state = {k.replace('visual.model.', 'visual.'): v for k, v in library.state_dict().items()}
    torch.save(state, tmp_path / 'open_clip_pytorch_model.bin')
    spec = f'local-dir:{tmp_path}'
    rows = load_encoders({'frozen': spec, 'random': 'random', 'colour': 'colour'}, spec, seed=5)
    expected = library.visual.eval().dense(IMAGES)
    torch.testing.assert_close(rows['frozen'].dense(IMAGES), expected)
    assert (rows['random'].dense(IMAGES) - expected).abs().max() > 1e-3
    for row in rows.values():
        assert tuple(row.image_mean) == (0.1, 0.2, 0.3)


def test_colour_by_hand() -> None:
    images = torch.zeros(1, 3, 2, 4)
    images[0, :, :, :2] = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    images[0, 0, 0, 2] = 4.0  # one of four pixels of the right patch
    encoder = ColourEncoder(2, (0.5,) * 3, (0.2,) * 3)
    expected = [[[1, 1]], [[2, 0]], [[3, 0]], [[1, 1]]]
    torch.testing.assert_close(encoder.dense(images)[0], torch.tensor(expected).float())
    torch.testing.assert_close(
        encoder.image_embedding(images), torch.tensor([[1.0, 1.0, 1.5, 1.0]])
    )


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        ('colour@1', 'without a block'),
        ('random@4', r'block in \[0, 3\] after @, got 4'),
        ('{stage1}@1', 'without a Refiner'),
        ('missing.pth', 'missing.pth, found none'),
        ('missing.pth@2', 'missing.pth, found none'),
        ('openai', "weight file for inline config, got the tag 'openai'"),
    ],
)
def test_wrong_rows(files: dict[str, str], spec: str, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_encoders({'a': spec.format(**files)}, TOWER)


def test_no_row() -> None:
    with pytest.raises(ValueError, match='NAME=CHECKPOINT, got none'):
        load_encoders({}, TOWER)


def test_quick_gelu_of_one_row_only(files: dict[str, str]) -> None:
    # OpenAI's weights bring their activation along; a refined checkpoint does not.
    quick = load_encoders({'a': files['library']}, {**TOWER, 'quick_gelu': True})['a']
    plain = load_encoders({'b': files['refined_epoch_1']}, TOWER)['b']
    from refineclip.evaluation.encoders.rows import _check_one_architecture

    with pytest.raises(ValueError, match="one architecture, got other layers in 'b' than in 'a'"):
        _check_one_architecture({'a': quick, 'b': plain})


def test_names_of_specs(files: dict[str, str]) -> None:
    assert split_tap('a/b@home.pth') == ('a/b@home.pth', None)
    assert split_tap('a@3@11') == ('a@3', 11)
    assert is_own_checkpoint(files['stage2'])
    assert not is_own_checkpoint(files['library'])
    assert not is_own_checkpoint('openai')


def test_rows_resize_positions_alike(files: dict[str, str]) -> None:
    specs = {'library': files['library'], 'student': files['refined_epoch_1'], 'random': 'random'}
    for name in ('bicubic', 'bicubic-antialias'):
        rows = load_encoders(specs, TOWER, position_interpolation=name)
        assert {row.visual.position_interpolation for row in rows.values()} == {name}
