from __future__ import annotations

from pathlib import Path

import pytest

from refineclip.__main__ import main
from refineclip.datasets.coco_panoptic import CocoPanoptic


def test_writes_both_splits_and_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, sheet = tmp_path / 'world', tmp_path / 'sheet.jpg'
    assert main(['microworld', str(out), '--train', '2', '--val', '1', '--sheet', str(sheet)]) == 0
    assert (len(CocoPanoptic(out, 'train')), len(CocoPanoptic(out, 'val'))) == (2, 1)
    assert sheet.stat().st_size < 250_000
    assert f'{out / "train"}: 2 images' in capsys.readouterr().out


@pytest.mark.parametrize(
    'options', [['--train', '-1'], ['--seed', '-1'], ['--train', '0', '--val', '0']]
)
def test_numbers_out_of_range_are_a_sentence(tmp_path: Path, options, capsys):
    with pytest.raises(SystemExit):
        main(['microworld', str(tmp_path), *options])
    assert 'expected a seed and numbers >= 0' in capsys.readouterr().err
