from __future__ import annotations

import pytest
import torch

from refineclip.encoders.finite import check_finite


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_the_first_source_is_named(value: float) -> None:
    maps = torch.zeros(3, 2, 2, dtype=torch.float16)
    check_finite(maps, 'scores', ['a', 'b', 'c'])
    maps[1, 0, 1] = value
    with pytest.raises(ValueError, match=r'finite scores, got NaN or infinity for b; .*precision'):
        check_finite(maps, 'scores', ['a', 'b', 'c'])


def test_one_number_per_source() -> None:
    with pytest.raises(ValueError, match='for c'):
        check_finite(torch.tensor([1.0, 2.0, float('nan')]), 'scores', ['a', 'b', 'c'])
