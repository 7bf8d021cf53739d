"""``python -m refineclip evaluate image`` on toy towers and coloured squares."""

from __future__ import annotations

import copy
import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from refineclip.commands import evaluate
from refineclip.commands.evaluate.image import sentences
from refineclip.commands.evaluate.image_guard import text_weights
from refineclip.encoders import RefinerCLIP, build_clip
from refineclip.encoders.text.embedder import TextEmbedder
from refineclip.evaluation import PairedDifference
from refineclip.evaluation.image_level.embeddings import embed_images, library_transform
from refineclip.evaluation.image_level.retrieval import embed_captions, retrieval_recall
from refineclip.evaluation.image_level.zero_shot import zero_shot_accuracy

TOWER = dict(
    embed_dim=12,
    vision_cfg=dict(image_size=32, layers=2, width=16, head_width=8, patch_size=8),
    text_cfg=dict(context_length=16, vocab_size=49408, width=16, heads=2, layers=1),
)
COLOURS = dict(red=(220, 30, 30), green=(30, 200, 40), blue=(20, 40, 210))


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """A toy CLIP, checkpoints of both stages, a class folder and captions."""
    root = tmp_path_factory.mktemp('world')
    torch.manual_seed(0)
    folder = root / 'clip'
    folder.mkdir()
    (folder / 'open_clip_config.json').write_text(
        json.dumps(dict(model_cfg=TOWER, preprocess_cfg=dict(interpolation='bilinear')))
    )
    library = open_clip.CLIP(**copy.deepcopy(TOWER))
    save_file(library.state_dict(), folder / 'open_clip_model.safetensors')
    clip = build_clip(f'local-dir:{folder}')

    refined = RefinerCLIP(TOWER, refiner=dict(num_blocks=1))
    refined.visual.load_state_dict(clip.visual.state_dict())
    torch.save({f'encoder.{k}': v for k, v in refined.state_dict().items()}, root / 'stage1.pth')
    student = RefinerCLIP(TOWER)
    student.visual.load_state_dict(clip.visual.state_dict())
    with torch.no_grad():
        for parameter in student.visual.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    torch.save(student.state_dict(), root / 'refined_1.pth')

    generator = np.random.default_rng(0)
    images, annotations = [], []
    for colour, rgb in COLOURS.items():
        (root / 'data' / colour).mkdir(parents=True)
        for index in range(4):
            noise = generator.normal(0, 40, (40, 52, 3))
            pixels = np.clip(np.array(rgb) + noise, 0, 255).astype(np.uint8)
            name = f'{colour}/{index}.png'
            Image.fromarray(pixels).save(root / 'data' / name)
            images.append(dict(id=len(images), file_name=name))
            for number in range(1 + index % 2):
                annotations.append(
                    dict(image_id=images[-1]['id'], caption=f'{colour} square {index} {number}')
                )
    (root / 'data' / 'red' / 'broken.png').write_bytes(b'no picture')
    (root / 'captions.json').write_text(json.dumps(dict(images=images, annotations=annotations)))
    return root


def rows(world, *more):
    return [
        'image',
        '--model',
        f'local-dir:{world / "clip"}',
        '--models',
        f'frozen=local-dir:{world / "clip"}',
        f'refined={world / "refined_1.pth"}',
        *more,
    ]


def test_before_and_after(world, tmp_path, capsys):
    out = tmp_path / 'out' / 'result.json'
    status = evaluate.main(
        [
            *rows(world, f'stage1={world / "stage1.pth"}', 'random=random'),
            '--compare=frozen',
            f'--data={world / "data"}',
            '--templates=photo',
            f'--captions={world / "captions.json"}',
            f'--image-root={world / "data"}',
            '--batch-size=5',
            f'--json={out}',
        ]
    )
    assert status == 0
    printed = capsys.readouterr().out
    assert 'images@1' in printed
    assert 'text->image, 12 images' in printed
    assert 'recall@5' in printed
    assert 'refined - frozen' in printed
    assert 'stage1: zero-shot top-1 equals that of frozen' in printed  # a Refiner leaves it be
    result = json.loads(out.read_text())
    assert result['classification']['num_images'] == 12
    assert result['classification']['num_files'] == 13
    assert [path.split('/')[-1] for path in result['classification']['skipped']] == ['broken.png']
    assert result['retrieval']['num_captions'] == 18
    assert result['settings']['transform']['interpolation'] == 'bilinear'
    assert result['classification']['classes']['green'] == 'green'
    scores = result['scores']
    assert scores['stage1'] == scores['frozen']
    assert set(result['differences']) == {'refined', 'stage1', 'random'}
    gap = result['differences']['refined']['image_to_text_recall5']['value']
    expected = (
        scores['refined']['image_to_text_recall5'] - scores['frozen']['image_to_text_recall5']
    )
    assert gap == pytest.approx(expected)

    # The same numbers from the parts, by hand.
    clip = build_clip(f'local-dir:{world / "clip"}').eval()
    encoder = RefinerCLIP(
        TOWER, init_cfg=dict(type='Pretrained', checkpoint=str(world / 'refined_1.pth'))
    )
    encoder.init_weights()
    paths = [p for c in sorted(COLOURS) for p in sorted((world / 'data' / c).glob('[0-9].png'))]
    labels = np.repeat(np.arange(3), 4)
    transform = library_transform(encoder.visual, f'local-dir:{world / "clip"}')
    features = embed_images(dict(a=encoder.eval()), paths, transform).features['a']
    text = TextEmbedder(clip, 'photo').embed(sorted(COLOURS))
    by_hand = zero_shot_accuracy(features, labels, text)
    assert scores['refined']['top1'] == pytest.approx(by_hand.scores['top1'].value)
    assert result['classification']['per_class']['refined']['top1'] == pytest.approx(
        by_hand.per_class['top1'].tolist()
    )
    content = json.loads((world / 'captions.json').read_text())
    files = [world / 'data' / image['file_name'] for image in content['images']]
    features = embed_images(dict(a=encoder), files, transform).features['a']
    owner = np.array([one['image_id'] for one in content['annotations']])
    captions = embed_captions(clip, [one['caption'] for one in content['annotations']])
    for key, one in retrieval_recall(features, captions, owner).items():
        assert scores['refined'][key] == pytest.approx(one.value)


def test_parity_with_the_plain_library(world, tmp_path):
    out = tmp_path / 'result.json'
    argv = [*rows(world), f'--data={world / "data"}', '--templates=photo', f'--json={out}']
    assert evaluate.main(argv) == 0
    scores = json.loads(out.read_text())['scores']['frozen']
    name = f'local-dir:{world / "clip"}'
    model, preprocess = open_clip.create_model_from_pretrained(name)
    classes = sorted(COLOURS)
    weights = open_clip.build_zero_shot_classifier(
        model.eval(), open_clip.get_tokenizer(name), classes, ['a photo of a {}']
    )
    hits = []
    with torch.no_grad():
        for label, colour in enumerate(classes):
            for path in sorted((world / 'data' / colour).glob('[0-9].png')):
                logits = model.encode_image(preprocess(Image.open(path))[None]) @ weights
                hits.append(logits.argmax().item() == label)
    assert scores['top1'] == pytest.approx(np.mean(hits))
    assert 0 < scores['top1'] < 1  # else the two could agree by chance


def test_without_comparison_there_is_one_table(world, capsys):
    assert evaluate.main([*rows(world), f'--data={world / "data"}', '--templates=photo']) == 0
    printed = capsys.readouterr().out
    assert 'difference' not in printed
    assert 'recall' not in printed


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        ([], 'got neither'),
        (['--captions={0}/captions.json'], '--captions and --image-root together'),
        (['--data={0}/nowhere'], 'folder of class folders'),
        (['--data={0}/data', '--class-names={0}/captions.json'], 'got none of them'),
        (['--data={0}/data', '--image-size=33'], 'multiple of the patch 8'),
        (['--data={0}/data', '--batch-size=0'], '--batch-size >= 1'),
        (['--data={0}/data', '--compare=other'], '--compare: expected one of'),
        (['--captions={0}/captions.json', '--image-root={0}'], 'do not exist'),
        (['--captions={0}/captions.json', '--image-root={0}', '--class-names=x'], 'with --data'),
        (['--data={0}/data', '--templates=photos'], 'templates'),
        (['--data={0}/data', '--json={0}'], 'a file to write'),
    ],
)
def test_wrong_input_is_said_in_a_line(world, capsys, more, message):
    assert evaluate.main([*rows(world), *(part.format(world) for part in more)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert 'Traceback' not in error


def test_mean_colours_have_no_text_space(world, capsys):
    assert evaluate.main([*rows(world, 'colour=colour'), f'--data={world / "data"}']) == 2
    assert 'rows with a text space' in capsys.readouterr().err


def test_text_tower_is_never_random(world):
    refined = dict(refined=str(world / 'refined_1.pth'), chance='random')
    with pytest.raises(ValueError, match='give --text-pretrained'):
        text_weights(None, 'ViT-B-16', refined)
    assert text_weights('openai', 'ViT-B-16', refined) == 'openai'
    assert text_weights(None, 'ViT-B-16', {**refined, 'frozen': 'openai@9'}) == 'openai'
    assert text_weights(None, 'local-dir:x', refined) is None
    with pytest.raises(ValueError, match='no text tower'):
        text_weights(None, 'timm/vit_small_patch16_224', refined)


def test_sentences():
    def difference(value, low, high):
        return dict(top1=PairedDifference(value, 0.01, low, high))

    text = sentences(
        dict(
            worse=difference(-0.05, -0.07, -0.03),
            better=difference(0.04, 0.01, 0.06),
            same=difference(0.0, 0.0, 0.0),
            unclear=difference(-0.01, -0.03, 0.01),
        ),
        'frozen',
    )
    assert text.splitlines()[:4] == [
        'worse: zero-shot top-1 drops by 0.0500 [-0.0700, -0.0300]',
        'better: zero-shot top-1 gains by 0.0400 [+0.0100, +0.0600]',
        'same: zero-shot top-1 equals that of frozen',
        'unclear: zero-shot top-1 -0.0100 [-0.0300, +0.0100], within noise',
    ]
    assert sentences({}, None) == ''
