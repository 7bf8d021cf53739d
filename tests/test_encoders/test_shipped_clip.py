"""The CLIP that the package ships, its tokenizer, and models that bring their own merges."""

from __future__ import annotations

import gzip
import json
import shutil

import pytest
import torch
from torch.nn import functional as F

from refineclip.datasets.microworld import NAMED_KINDS, PROMPTS, Microworld
from refineclip.datasets.microworld.merges import byte_pair_merges, vocabulary_size, write_merges
from refineclip.datasets.microworld.vocabulary import WORDS
from refineclip.encoders import RefinerCLIP, build_clip
from refineclip.encoders.sources import ASSETS, resolve_source
from refineclip.encoders.text.embedder import TextEmbedder

FOLDER = ASSETS / 'microworld-clip'


@pytest.fixture(scope='module')
def shipped():
    return build_clip('microworld-clip', 'shipped').eval().requires_grad_(False)


def test_merges_by_hand():
    assert byte_pair_merges(['on', 'one']) == [('o', 'n</w>'), ('o', 'n'), ('on', 'e</w>')]
    assert byte_pair_merges(['a']) == []
    assert vocabulary_size(['on', 'one']) == 512 + 3 + 2


def test_merges_of_the_asset_are_those_of_the_vocabulary(tmp_path):
    write_merges(tmp_path / 'merges.txt.gz')
    ours, stored = (gzip.decompress((f / 'merges.txt.gz').read_bytes()) for f in (tmp_path, FOLDER))
    assert ours == stored
    config = json.loads((FOLDER / 'open_clip_config.json').read_text())
    assert config['model_cfg']['text_cfg']['vocab_size'] == vocabulary_size()


# They hold other words, whose merges come first.
SEVERAL_TOKENS = 'sand boat hat orange green grey tree trees houses kites'


def test_words_are_tokens_of_their_own(shipped):
    ids = shipped.tokenizer(list(WORDS))
    lengths = dict(zip(WORDS, (ids != 0).sum(dim=1).tolist(), strict=True))
    several = {word for word, length in lengths.items() if length > 3}  # start, word, end
    assert several == set(SEVERAL_TOKENS.split())
    assert max(lengths.values()) <= 6
    assert len({tuple(row) for row in ids.tolist()}) == len(WORDS)
    # The end of text is where the text tower reads: the largest id.
    assert set(ids.max(dim=1).values.tolist()) == {vocabulary_size() - 1}


def test_longest_caption_fits_the_context(shipped):
    text = 'a flower, a green mushroom, an orange kite and a house in a meadow'
    ids = shipped.tokenizer([text])
    assert ids[0].count_nonzero() == ids.shape[1] == 24  # among the longest that are drawn
    assert shipped.tokenizer.decode(ids[0].tolist()).count('meadow') == 1


def test_names_and_folders_give_the_same_model(shipped):
    folder = build_clip(f'local-dir:{FOLDER}').state_dict()
    assert all(torch.equal(folder[key], value) for key, value in shipped.state_dict().items())
    assert (FOLDER / 'open_clip_model.safetensors').stat().st_size < 4_000_000
    assert sum(p.numel() for p in shipped.parameters()) < 2e6


def test_without_a_tag_weights_are_random(shipped):
    torch.manual_seed(0)
    first = build_clip('microworld-clip').visual.state_dict()
    torch.manual_seed(1)
    second = build_clip('microworld-clip').visual.state_dict()
    key = next(key for key in first if key.endswith('in_proj_weight'))
    assert not torch.equal(first[key], second[key])
    assert not torch.equal(first[key], shipped.visual.state_dict()[key])


def test_unknown_tag_is_refused():
    with pytest.raises(ValueError, match="got the tag 'openai'"):
        build_clip('microworld-clip', 'openai')


def test_config_alone_is_no_model_with_weights(tmp_path):
    shutil.copy(FOLDER / 'open_clip_config.json', tmp_path)
    with pytest.raises(FileNotFoundError, match='expected weights in'):
        build_clip(f'local-dir:{tmp_path}')


def test_normalisation_is_that_of_the_pretraining(shipped):
    encoder = RefinerCLIP('microworld-clip', pretrained='shipped')
    assert tuple(encoder.image_mean) == (0.5, 0.5, 0.5)
    assert tuple(encoder.image_std) == (0.25, 0.25, 0.25)
    assert encoder.dense(torch.zeros(1, 3, 128, 128)).shape == (1, 128, 16, 16)


@torch.no_grad()
def test_it_names_what_it_sees(shipped):
    # Of 16 nouns, chance is .06: images of one object, none of which was trained on.
    nouns = list(PROMPTS)[:NAMED_KINDS]
    texts = TextEmbedder(shipped, templates=['a {}']).embed(nouns)
    world = Microworld('accuracy', 'pretrain')
    scenes = [s for s in (world[i] for i in range(150)) if len(s.kinds) == 1 and s.kinds[0] < 16]
    pixels = torch.stack([torch.from_numpy(s.image).permute(2, 0, 1) for s in scenes])
    found = F.normalize(shipped(((pixels / 255) - 0.5) / 0.25), dim=-1) @ texts.T
    kinds = torch.tensor([scene.kinds[0] for scene in scenes])
    assert len(kinds) > 20
    assert (found.argmax(dim=1) == kinds).float().mean() > 0.5


def test_its_positions_are_resized_as_when_it_was_measured(shipped):
    """Its config says so; the same config without that word follows its family."""
    assert shipped.visual.position_interpolation == 'bicubic-antialias'
    source = resolve_source('microworld-clip', 'shipped')
    bare = build_clip({'model_cfg': source.config}, text=False)
    assert bare.visual.position_interpolation == 'bicubic'
    named = build_clip('microworld-clip', 'shipped', position_interpolation='bicubic')
    assert named.visual.position_interpolation == 'bicubic'
