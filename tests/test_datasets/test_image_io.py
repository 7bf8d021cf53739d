from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refineclip.datasets.image_io import (
    BadImageError,
    image_to_tensor,
    read_image,
    read_image_size,
)

ORIENTATION_TAG = 274


def colours(height: int = 40, width: int = 60) -> np.ndarray:
    """Smooth colours, so that JPEG keeps them; the left third is red, the rest blue."""
    array = np.zeros((height, width, 3), np.uint8)
    array[:, : width // 3, 0] = 200
    array[:, width // 3 :, 2] = 200
    return array


def test_rgb_is_read_as_stored(tmp_path: Path) -> None:
    path = tmp_path / 'a.png'
    Image.fromarray(colours()).save(path)
    tensor = image_to_tensor(read_image(path))
    assert tensor.dtype == torch.uint8
    assert tensor.is_contiguous()
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), colours())


def test_exif_rotation_is_honoured(tmp_path: Path) -> None:
    path = tmp_path / 'a.jpg'
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6  # shown turned by 90 degrees clockwise
    Image.fromarray(colours()).save(path, exif=exif, quality=95)
    image = np.asarray(read_image(path))
    assert image.shape == (60, 40, 3)
    # The left third becomes the top third.
    assert image[5, 20, 0] > 180
    assert image[5, 20, 2] < 20
    assert image[50, 20, 2] > 180


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'AVIF', 'TIFF'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation_means_the_same_in_every_format(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    array = colours()
    array[: len(array) // 2] //= 2  # so that a flip shows
    path = tmp_path / 'a.jpg'  # whatever the bytes are
    Image.fromarray(array).save(path, format=kind, exif=exif.tobytes(), quality=95)
    image = read_image(path)
    assert read_image_size(path) == image.size
    # The EXIF standard: where the stored first row and first column are shown.
    turns = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.transpose(1, 0, 2),
        6: array[::-1].transpose(1, 0, 2),
        7: array[::-1, ::-1].transpose(1, 0, 2),
        8: array[:, ::-1].transpose(1, 0, 2),
    }
    difference = np.asarray(image).astype(int) - turns[orientation]
    assert np.abs(difference).mean() < 4


@pytest.mark.parametrize('kind', ['GIF', 'ICO', 'AVIF', 'JPEG2000', 'TIFF'])
def test_the_bytes_decide_the_format(tmp_path: Path, kind: str) -> None:
    path = tmp_path / 'a.jpg'
    Image.fromarray(np.full((48, 48, 3), 90, np.uint8)).save(path, format=kind)
    assert np.abs(np.asarray(read_image(path)).astype(int) - 90).max() <= 2


def test_a_thread_of_pixels_is_refused(tmp_path: Path) -> None:
    Image.new('RGB', (101, 1)).save(tmp_path / 'a.png')
    with pytest.raises(BadImageError, match='101 x 1 px, one side is more than 100 times'):
        read_image(tmp_path / 'a.png', min_size=1)
    Image.new('RGB', (100, 1)).save(tmp_path / 'a.png')
    assert read_image(tmp_path / 'a.png', min_size=1).size == (100, 1)


@pytest.mark.parametrize(
    ('mode', 'suffix'),
    [('L', 'png'), ('L', 'jpg'), ('1', 'png'), ('LA', 'png'), ('CMYK', 'jpg'), ('P', 'png')],
)
def test_other_modes_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f'a.{suffix}'
    grey = Image.fromarray(np.full((40, 60), 255, np.uint8))
    grey.convert('RGB').convert(mode).save(path)
    image = read_image(path)
    assert image.mode == 'RGB'
    assert np.asarray(image).min() >= 253


def test_cmyk_keeps_its_colours(tmp_path: Path) -> None:
    path = tmp_path / 'a.jpg'
    Image.fromarray(colours()).convert('CMYK').save(path, quality=95)
    difference = np.asarray(read_image(path)).astype(int) - colours()
    assert np.abs(difference).mean() < 4


@pytest.mark.parametrize('palette', [False, True])
def test_alpha_is_dropped_not_composited(tmp_path: Path, palette: bool) -> None:
    path = tmp_path / 'a.png'
    if palette:
        image = Image.fromarray(colours()).quantize(4)
        image.save(path, transparency=0)
    else:
        alpha = np.zeros((40, 60, 1), np.uint8)  # wholly transparent
        Image.fromarray(np.concatenate([colours(), alpha], axis=2)).save(path)
    assert np.array_equal(np.asarray(read_image(path)), colours())


@pytest.mark.parametrize('suffix', ['webp', 'bmp'])
def test_other_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f'a.{suffix}'
    Image.fromarray(colours()).save(path)
    assert read_image(path).size == (60, 40)


def test_two_picture_jpeg_of_phones_is_no_animation(tmp_path: Path) -> None:
    path = tmp_path / 'a.jpg'
    image = Image.fromarray(colours())
    image.save(path, format='MPO', save_all=True, append_images=[image.resize((30, 20))])
    assert read_image(path).size == (60, 40)


def test_bad_files_are_named_with_a_reason(tmp_path: Path) -> None:
    image = Image.fromarray(colours())
    image.save(tmp_path / 'whole.jpg')
    data = (tmp_path / 'whole.jpg').read_bytes()
    (tmp_path / 'truncated.jpg').write_bytes(data[: len(data) // 2])
    image.save(tmp_path / 'whole.png')
    data = (tmp_path / 'whole.png').read_bytes()
    (tmp_path / 'truncated.png').write_bytes(data[: len(data) // 2])
    (tmp_path / 'header.png').write_bytes(data[:20])
    (tmp_path / 'empty.jpg').write_bytes(b'')
    (tmp_path / 'text.jpg').write_text('<html>not found</html>')
    Image.fromarray(np.zeros((40, 60), np.uint16)).save(tmp_path / 'grey16.png')
    write_colour_16_bit_png(tmp_path / 'colour16.png')
    image.save(tmp_path / 'moving.webp', save_all=True, append_images=[image.rotate(180)])
    image.save(tmp_path / 'moving.png', save_all=True, append_images=[image.rotate(180)])
    image.resize((60, 31)).save(tmp_path / 'flat.png')
    expected = {
        'truncated.jpg': 'truncated',
        'truncated.png': 'truncated',
        'header.png': 'cannot be read',
        'empty.jpg': 'zero-byte',
        'text.jpg': 'cannot identify',
        'grey16.png': '16 bits',
        'colour16.png': '16 bits',
        'moving.webp': 'animated, 2 frames',
        'moving.png': 'animated, 2 frames',
        'flat.png': '60 x 31 px, smaller than 32 px',
        'gone.jpg': 'No such file',
    }
    for name, reason in expected.items():
        with pytest.raises(BadImageError, match=reason) as info:
            read_image(tmp_path / name, min_size=32)
        assert info.value.path == str(tmp_path / name)
        # Workers send errors to the main process by pickling them.
        assert pickle.loads(pickle.dumps(info.value)).reason == info.value.reason
    assert read_image(tmp_path / 'flat.png', min_size=31).size == (60, 31)


def write_colour_16_bit_png(path: Path) -> None:
    """Write by hand what Pillow cannot: 40 x 40 px of three 16-bit channels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack('>I', zlib.crc32(kind + data))
        return struct.pack('>I', len(data)) + kind + data + crc

    header = struct.pack('>IIBBBBB', 40, 40, 16, 2, 0, 0, 0)
    rows = b''.join(b'\0' + bytes(40 * 6) for _ in range(40))
    body = chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + body)


def test_any_error_on_damaged_metadata_names_the_file(tmp_path, monkeypatch):
    """Pillow's EXIF code raises TypeError and AttributeError on some damaged bytes."""
    Image.new('RGB', (40, 40)).save(tmp_path / 'damaged.jpg')

    def fail(*args, **kwargs):
        raise AttributeError("'float' object has no attribute 'encode'")

    monkeypatch.setattr('refineclip.datasets.image_io.ImageOps.exif_transpose', fail)
    with pytest.raises(BadImageError, match=r'damaged.jpg.*encode'):
        read_image(tmp_path / 'damaged.jpg')


def test_pipes_devices_and_folders_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe.jpg')
    (tmp_path / 'folder.jpg').mkdir()
    (tmp_path / 'dangling.jpg').symlink_to(tmp_path / 'none')
    for path in (tmp_path / 'pipe.jpg', tmp_path / 'folder.jpg', Path('/dev/zero')):
        for read in (read_image, read_image_size):
            with pytest.raises(BadImageError, match='no file'):
                read(path)
    for name in ('dangling.jpg', 'n' * 300):
        with pytest.raises(BadImageError, match='cannot be read'):
            read_image(tmp_path / name)
