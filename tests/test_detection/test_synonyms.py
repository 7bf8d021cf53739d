"""A detector tested under other names of its classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refineclip.datasets.ov_splits import get_split
from refineclip.evaluation.regions.synonym_swap import SynonymSwap, mean_scores


def test_shipped_synonyms_are_of_all_65_classes_and_no_class_themselves() -> None:
    swap = SynonymSwap()
    classes = get_split('ov-coco').classes
    assert tuple(swap.synonyms) == classes
    names = swap.names(classes)
    assert len(set(names)) == 65
    # None of the 80 either, nor the class's own word with another beside it.
    assert not set(names) & set(get_split('coco').classes)
    for name, synonym in zip(classes, names, strict=True):
        assert name not in synonym.split()


def test_rounds_go_through_all_synonyms(tmp_path: Path) -> None:
    file = tmp_path / 'synonyms.txt'
    file.write_text('cat; kitty; tomcat; mouser\ndog; hound\n')
    swap = SynonymSwap(file)
    classes = ('dog', 'cat')
    assert swap.num_rounds(classes) == 3
    assert [swap.names(classes, i) for i in range(3)] == [
        ('hound', 'kitty'),
        ('hound', 'tomcat'),
        ('hound', 'mouser'),
    ]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('cat; kitty\ndog\n', r"""expected "name; synonym" in each line, got only \['dog'\]"""),
        ('cat; kitty\n', r"synonyms of all 2 classes, lacks 1: \['dog'\]"),
        ('cat; dog\ndog; hound\n', r"synonyms that are no class, got \['dog'\]"),
        ('cat; pet\ndog; pet\n', r"each class name once, got \['pet'\]"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / 'synonyms.txt'
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        SynonymSwap(file).names(('cat', 'dog'))


def test_mean_of_rounds() -> None:
    assert mean_scores([{'a': 0.2, 'b': 1.0}, {'a': 0.4}]) == {'a': pytest.approx(0.3)}


@pytest.mark.mm
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Swapped names reach the model, base classes stay base, and both scores are written."""
    import torch
    from mmengine.registry import MODELS, DefaultScope

    from refineclip.commands import evaluate
    from refineclip.detection.text_classifier import TextClassifier
    from tests.test_detection.toys import run_config

    cfg = run_config(tmp_path / 'data', tmp_path / 'work')
    classes = list(cfg.test_dataloader.dataset.metainfo['classes'])
    synonyms = tmp_path / 'synonyms.txt'
    synonyms.write_text(''.join(f'{name}; other {name}\n' for name in classes))
    cfg.dump(tmp_path / 'config.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    torch.save(dict(meta={}, state_dict=model.state_dict()), tmp_path / 'model.pth')

    seen: list[tuple[tuple[str, ...], Any]] = []
    forward = TextClassifier.forward

    def watch(self: TextClassifier, features: Any) -> Any:
        state = (self.names, self.is_base.tolist())
        if state not in seen:
            seen.append(state)
        return forward(self, features)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextClassifier, 'forward', watch)
        status = evaluate.main(
            [
                *('synonyms', str(tmp_path / 'config.py'), str(tmp_path / 'model.pth')),
                *('--synonyms', str(synonyms), '--json', str(tmp_path / 'scores.json')),
            ]
        )
    assert status == 0
    base = [True] * 16 + [False] * (len(classes) - 16)
    assert seen == [(tuple(classes), base), (tuple(f'other {c}' for c in classes), base)]
    out = capsys.readouterr().out
    assert 'novel AP50' in out
    assert [line.split()[0] for line in out.splitlines()[-3:]] == [
        *('names', 'synonyms', 'difference')
    ]
    # Names and synonyms, eight images each, for the next call.
    assert len(list(tmp_path.glob('work/images/*/*.pth'))) == 16
    scores = json.loads((tmp_path / 'scores.json').read_text())
    assert set(scores['names']) == set(scores['synonyms'])
    assert scores['vocabularies'][0][0] == f'other {classes[0]}'


@pytest.mark.mm
@pytest.mark.slow
def test_processes_give_the_scores_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from mmengine.registry import MODELS, DefaultScope

    from refineclip.commands import evaluate
    from tests.test_detection.toys import run_config

    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    cfg = run_config(tmp_path / 'data', tmp_path / 'work')
    synonyms = tmp_path / 'synonyms.txt'
    classes = cfg.test_dataloader.dataset.metainfo['classes']
    synonyms.write_text(''.join(f'{name}; other {name}\n' for name in classes))
    cfg.dump(tmp_path / 'config.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    torch.save(dict(meta={}, state_dict=model.state_dict()), tmp_path / 'model.pth')
    found = []
    for number in ('1', '2'):
        argv = ['synonyms', str(tmp_path / 'config.py'), str(tmp_path / 'model.pth')]
        argv += ['--synonyms', str(synonyms), '--json', str(tmp_path / f'{number}.json')]
        argv += ['--work-dir', str(tmp_path / number), '--processes', number]
        assert evaluate.main(argv) == 0
        found.append(json.loads((tmp_path / f'{number}.json').read_text()))
    assert found[0]['names'] == found[1]['names']
    assert found[0]['synonyms'] == found[1]['synonyms']


@pytest.mark.mm
def test_command_without_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from refineclip.commands import evaluate

    (tmp_path / 'config.py').write_text('')
    assert evaluate.main(['synonyms', str(tmp_path / 'config.py'), 'absent.pth']) == 2
    assert 'absent.pth, which does not exist' in capsys.readouterr().err
