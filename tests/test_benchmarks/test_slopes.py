"""``python -m benchmarks slopes``: straight lines and powers, and one kind at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.slopes import command


def test_slopes_of_known_lines() -> None:
    sizes = [250, 500, 1000]
    results = [
        dict(cpu_seconds=2.0 * n, seconds=0.0, peak_mib=512 * (n / 250) ** 0.5) for n in sizes
    ]
    figures = command.summary(sizes, results)
    assert figures['time_slope'] == pytest.approx(1)
    assert figures['memory_slope'] == pytest.approx(0.5)
    assert figures['seconds_per_image'] == pytest.approx(2)
    assert figures['hours']['COCO val2017'] == pytest.approx(10_000 / 3600)
    row = dict(kind='image', sizes=sizes, pixels=224, results=results, figures=figures, bound='b')
    text = command.line(row)
    assert text.startswith('| `image` | 250/500/1000 | 224 | 500/1000/2000 | 512/724/1024 | 1.00 ')
    assert '1 +- .1: reached' in text
    assert '0 +- .05: **missed**' in text


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['detect'], 'KIND: expected some of'),
        (['--sizes', '20', '10'], 'two or more, rising, above 4'),
        (['--sizes', '4', '10'], 'two or more, rising, above 4'),
    ],
)
def test_wrong_arguments(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(argv)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ['image', '--sizes', '8', '16', '--pixels', '32', '--out', str(tmp_path)]
    assert command.main(argv) == 0
    row = report.load(tmp_path)['slopes-image-32']
    assert row['sizes'] == [8, 16]
    assert all(one['peak_mib'] > 0 for one in row['results'])
    assert '| `image` | 8/16 | 32 |' in capsys.readouterr().out
