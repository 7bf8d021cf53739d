from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS
from PIL import Image

from refineclip.datasets import BadImageError, read_image


@pytest.mark.parametrize('kind', ['JPEG', 'WEBP', 'PNG'])
def test_pixels_are_those_of_read_image(tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    path = tmp_path / 'a.jpg'
    Image.fromarray(pixels).save(path, kind, exif=exif.tobytes())
    load = TRANSFORMS.build(dict(type='LoadUprightImage'))
    results = load(dict(img_path=str(path)))
    assert results['img_shape'] == results['ori_shape'] == (60, 40)
    assert results['img'].flags['C_CONTIGUOUS']
    assert np.array_equal(results['img'][..., ::-1], np.asarray(read_image(path)))
    load = TRANSFORMS.build(dict(type='LoadUprightImage', to_float32=True))
    assert load(results)['img'].dtype == np.float32


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    (tmp_path / 'a.jpg').write_bytes(b'<html>')
    with pytest.raises(BadImageError, match=r'a\.jpg: cannot be read'):
        TRANSFORMS.build(dict(type='LoadUprightImage'))(dict(img_path=str(tmp_path / 'a.jpg')))
