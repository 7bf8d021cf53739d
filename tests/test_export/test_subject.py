from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refineclip.encoders import RefinerCLIP
from refineclip.export.subject import end_token, load_subject, sample_tokens

from .toys import randomize, toy_folder


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return toy_folder(tmp_path_factory.mktemp('toys') / 'clip', 'open_clip')


def save_stage_one(model: str, path: Path, **refiner) -> RefinerCLIP:
    encoder = RefinerCLIP(model, model, refiner=dict(num_blocks=2, **refiner))
    randomize(encoder.refiner)
    torch.save({f'encoder.{key}': value for key, value in encoder.state_dict().items()}, path)
    return encoder


def test_a_refiner_takes_the_place_of_the_last_blocks(model: str, tmp_path: Path) -> None:
    encoder = save_stage_one(model, tmp_path / 'stage1.pth').eval()
    subject = load_subject(model, str(tmp_path / 'stage1.pth'))
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        refined, plain = encoder.dense(images), encoder.visual.dense(images)
        folded = subject.folded().dense(images)
    torch.testing.assert_close(folded, refined)
    assert not torch.allclose(folded, plain, atol=1e-2)
    # The frozen tower itself is left as it was.
    torch.testing.assert_close(subject.encoder.visual.dense(images), plain)


def test_a_refiner_behind_the_tower_does_not_fold(model: str, tmp_path: Path) -> None:
    save_stage_one(model, tmp_path / 'stage1.pth', input='output')
    subject = load_subject(model, str(tmp_path / 'stage1.pth'), refiner_input='output')
    with pytest.raises(ValueError, match=r'a tower of more blocks; export it as onnx'):
        subject.folded()


def test_a_refined_encoder_has_no_text_until_it_is_named(model: str, tmp_path: Path) -> None:
    encoder = RefinerCLIP(model, model)
    torch.save(encoder.state_dict(), tmp_path / 'refined.pth')
    alone = load_subject(model, str(tmp_path / 'refined.pth'))
    with pytest.raises(ValueError, match=r'got none in .*refined\.pth; name its weights'):
        alone.with_text()
    assert load_subject(model, str(tmp_path / 'refined.pth'), model).with_text().text is not None


def test_a_pretraining_brings_its_text(tmp_path: Path) -> None:
    from refineclip.distill.contrastive_pretraining import ContrastivePretraining

    pretraining = ContrastivePretraining('microworld-clip')
    torch.save({'state_dict': pretraining.state_dict()}, tmp_path / 'iter_1.pth')
    clip = load_subject('microworld-clip', str(tmp_path / 'iter_1.pth')).folded_clip()
    own = pretraining.clip.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in clip.state_dict().items())


def test_what_has_no_file_or_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match='a tap has no file'):
        load_subject('microworld-clip', 'shipped@2')
    name = 'timm/test_vit'
    with pytest.raises(ValueError, match='--text-pretrained: expected a model with text, got timm'):
        load_subject(name, 'random', 'openai')
    with pytest.raises(ValueError, match='an image tower of timm; export it as timm, onnx or hf'):
        load_subject(name, 'random').source()


def test_tokens_end_where_the_tower_reads(model: str) -> None:
    text = load_subject(model, model).with_text().text
    tokens = sample_tokens(text, 16)
    assert tokens.shape == (3, 16)
    ends = (tokens == end_token(text)).int()
    assert ends.sum(1).tolist() == [1, 1, 1]
    assert torch.equal(tokens.argmax(1), ends.argmax(1))
    assert not tokens[ends.cumsum(1).bool() & ~ends.bool()].any()
