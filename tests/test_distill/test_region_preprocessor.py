from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from PIL import Image
from torch import Tensor

from refineclip.distill.region_batch import RegionBatch
from refineclip.distill.region_preprocessor import RegionPreprocessor
from refineclip.distill.roi_ops import pool_regions

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


def build(**overrides: object) -> RegionPreprocessor:
    settings = {'mean': MEAN, 'std': STD, 'image_size': 64, 'crop_size': 32, **overrides}
    return RegionPreprocessor(**settings)


def run(data: dict, **overrides: object) -> RegionBatch:
    return build(**overrides)(data)['inputs']


def raw(tensor: Tensor) -> Tensor:
    """Undo the normalisation: values in 0..255."""
    return tensor * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)


def photo(height: int, width: int) -> Tensor:
    """Smooth random picture, uint8 (3, H, W)."""
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(1).integers(-20, 20, (height, width, 3))
    array = (np.asarray(image).astype(int) + noise).clip(0, 255).astype(np.uint8)
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def with_rectangle(height: int, width: int, box: tuple[int, int, int, int]) -> Tensor:
    image = torch.full((3, height, width), 50, dtype=torch.uint8)
    x1, y1, x2, y2 = box
    image[0, y1:y2, x1:x2] = 250
    return image


def in_unit(box: tuple[int, int, int, int], height: int, width: int) -> Tensor:
    return torch.tensor([box]) / torch.tensor([width, height, width, height])


def test_letterbox_geometry_by_hand() -> None:
    # 100 x 50 px on a 64 canvas: scale .64, picture 64 x 32 at the top left.
    image = with_rectangle(50, 100, (50, 25, 100, 50))
    boxes = in_unit((50, 25, 100, 50), 50, 100)
    batch = run({'inputs': [image], 'boxes': [boxes]})
    assert batch.images.shape == (1, 3, 64, 64)
    assert torch.allclose(batch.boxes, torch.tensor([[0, 0.5, 0.25, 1, 0.5]]))
    assert torch.allclose(batch.regions, torch.tensor([[0.5, 0.5, 1, 1]]))
    # 50 x 25 px on a 32 crop: 32 x 16, centred.
    assert batch.crops is not None
    assert batch.crops.shape == (1, 3, 32, 32)
    assert torch.allclose(batch.crop_boxes, torch.tensor([[0, 0.25, 1, 0.75]]))
    crop = raw(batch.crops)[0, 0]
    assert torch.allclose(crop[8:24], torch.tensor(250.0), atol=1e-3)
    assert torch.allclose(crop[:8], torch.tensor(0.0), atol=1e-4)  # zero before normalisation
    assert torch.allclose(crop[24:], torch.tensor(0.0), atol=1e-4)
    assert torch.allclose(raw(batch.images)[0, :, 32:], torch.tensor(0.0), atol=1e-4)


@pytest.mark.parametrize('resize', ['letterbox', 'squash'])
@pytest.mark.parametrize(('height', 'width'), [(60, 90), (90, 60), (50, 50), (33, 97)])
def test_rectangle_lands_in_its_boxes(resize: str, height: int, width: int) -> None:
    box = (10, 8, 30, 32)
    batch = run(
        {'inputs': [with_rectangle(height, width, box)], 'boxes': [in_unit(box, height, width)]},
        image_resize=resize,
        crop_resize=resize,
        image_size=(128, 192),
        crop_size=64,
    )
    red = raw(batch.images)[:, :1] > 150
    inside = pool_regions(red.float(), batch.boxes, 1).item()
    assert inside > 0.95
    # Nothing red outside: pooled mean times box area is all red there is.
    _, x1, y1, x2, y2 = batch.boxes[0].tolist()
    assert red.float().mean() == pytest.approx((x2 - x1) * (y2 - y1), rel=0.08)
    owned = torch.cat([torch.zeros(1, 1), batch.crop_boxes], dim=1)
    assert pool_regions((raw(batch.crops)[:, :1] > 200).float(), owned, 1).item() > 0.99


@pytest.mark.parametrize('resize', ['letterbox', 'squash'])
def test_enlarged_crop_knows_where_its_region_is(resize: str) -> None:
    box = (20, 20, 40, 30)
    data = {'inputs': [with_rectangle(60, 80, box)], 'boxes': [in_unit(box, 60, 80)]}
    batch = run(data, crop_enlarge=1.5, crop_resize=resize, crop_size=96)
    # 1.5x: 30 x 15 px about (30, 25), i.e. x 15..45 and y 17.5..32.5, rounded to even: 18..32.
    red = raw(batch.crops)[0, 0] > 150
    x1, y1, x2, y2 = (batch.crop_boxes[0] * 96).tolist()
    assert (x1, x2) == pytest.approx((96 * 5 / 30, 96 * 25 / 30), abs=1e-4)
    rows, cols = red.any(dim=1).nonzero().flatten(), red.any(dim=0).nonzero().flatten()
    assert (cols[0].item(), cols[-1].item() + 1) == pytest.approx((x1, x2), abs=1.01)
    assert (rows[0].item(), rows[-1].item() + 1) == pytest.approx((y1, y2), abs=1.01)
    # The student still pools the tight box.
    assert torch.allclose(batch.boxes[0, 1:], torch.tensor([20, 20, 40, 30]) / 80)


def test_enlarged_crop_is_clipped_to_the_image() -> None:
    box = (0, 0, 40, 30)
    data = {'inputs': [photo(60, 80)], 'boxes': [in_unit(box, 60, 80)]}
    batch = run(data, crop_enlarge=1.5, crop_resize='squash')
    # x: 20 +- 30 -> 0..50; y: 15 +- 22.5 -> 0..37.5 -> 38.
    assert torch.allclose(batch.crop_boxes, torch.tensor([[0, 0, 40 / 50, 30 / 38]]))


@pytest.mark.parametrize(('height', 'width'), [(480, 640), (427, 640), (120, 90), (64, 64)])
def test_equals_pillow_within_one_of_255(height: int, width: int) -> None:
    image = photo(height, width)
    boxes = torch.tensor([[0.25, 0.25, 0.75, 1.0]])
    batch = run({'inputs': [image], 'boxes': [boxes]}, image_resize='squash')
    pillow = Image.fromarray(image.permute(1, 2, 0).numpy())
    whole = np.asarray(pillow.resize((64, 64), Image.Resampling.BICUBIC))
    got = raw(batch.images)[0].permute(1, 2, 0).numpy()
    assert np.abs(got - whole).mean() <= 1
    assert np.abs(got - whole).max() <= 4

    x1, x2, y1 = round(0.25 * width), round(0.75 * width), round(0.25 * height)
    crop = pillow.crop((x1, y1, x2, height))
    scale = 32 / max(crop.size)
    w, h = round(crop.size[0] * scale), round(crop.size[1] * scale)
    canvas = Image.new('RGB', (32, 32))
    canvas.paste(crop.resize((w, h), Image.Resampling.BICUBIC), ((32 - w) // 2, (32 - h) // 2))
    got = raw(batch.crops)[0].permute(1, 2, 0).numpy()
    assert np.abs(got - np.asarray(canvas)).mean() <= 1


def test_batching_does_not_mix_regions() -> None:
    """Crops resized together equal crops made one by one, in order, for every image."""
    sizes = [(48, 64), (64, 48), (48, 64)]
    images = [photo(*size) for size in sizes]
    images[2] = images[2].flip(-1).contiguous()
    boxes = [
        torch.tensor([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]]),
        torch.zeros(0, 4),
        torch.tensor([[0.5, 0, 1, 0.5], [0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9]]),
    ]
    together = run({'inputs': images, 'boxes': boxes, 'img_ids': [5, 6, 7], 'epochs': [1, 1, 2]})
    assert together.boxes[:, 0].tolist() == [0, 0, 2, 2, 2]
    assert together.img_ids.tolist() == [5, 6, 7]
    assert together.epochs.tolist() == [1, 1, 2]
    assert (len(together), together.num_regions) == (3, 5)
    row = 0
    for index in range(3):
        alone = run({'inputs': [images[index]], 'boxes': [boxes[index]]})
        assert torch.allclose(together.images[index], alone.images[0], atol=1e-5)
        for k in range(len(boxes[index])):
            assert torch.allclose(together.crops[row], alone.crops[k], atol=1e-5)
            assert torch.equal(together.boxes[row, 1:], alone.boxes[k, 1:])
            assert torch.equal(together.crop_boxes[row], alone.crop_boxes[k])
            row += 1
    assert row == together.num_regions


def test_empty_batch_and_no_regions() -> None:
    batch = run({'inputs': [], 'boxes': [], 'img_paths': [], 'img_ids': [], 'epochs': []})
    assert batch.images.shape == (0, 3, 64, 64)
    assert batch.boxes.shape == (0, 5)
    assert batch.regions.shape == batch.crop_boxes.shape == (0, 4)
    assert batch.crops.shape == (0, 3, 32, 32)
    assert batch.img_ids.shape == batch.epochs.shape == (0,)
    assert batch.img_ids.dtype == batch.epochs.dtype == torch.long
    batch = run({'inputs': [photo(40, 40)]})
    assert batch.images.shape == (1, 3, 64, 64)
    assert batch.crops.shape == (0, 3, 32, 32)
    assert batch.boxes.shape == (0, 5)


def test_degenerate_box_still_has_a_crop() -> None:
    boxes = torch.tensor([[1.0, 1, 1, 1], [0.5, 0.5, 0.5, 0.5]])
    batch = run({'inputs': [photo(40, 40)], 'boxes': [boxes]})
    assert batch.crops.isfinite().all()
    assert batch.crop_boxes.isfinite().all()


def test_crops_are_cut_when_asked_for_and_only_those() -> None:
    boxes = [torch.tensor([[0, 0, 0.5, 1], [0.2, 0.1, 0.9, 0.8]]), torch.tensor([[0, 0, 1, 1.0]])]
    data = {'inputs': [photo(40, 60), photo(50, 30)], 'boxes': boxes}
    batch, part = run(data), run(data).select([1, 0])
    assert 'crops' not in vars(batch)
    assert torch.equal(part.crops, batch.crops[[2, 0, 1]])
    assert torch.equal(batch.cut_crops([1]), batch.crops[1:2])
    assert torch.equal(part.select([1]).crops, batch.crops[:2])
    batch.cut_crops = None
    with pytest.raises(ValueError, match='without pictures'):
        _ = batch.select([0]).crops


def test_pad_size_divisor_by_hand() -> None:
    # 100 x 50 px on 64: 64 x 32. 60 x 30 px: 64 x 32. Divisor 24: 72 x 48.
    image = with_rectangle(50, 100, (50, 25, 100, 50))
    boxes = in_unit((50, 25, 100, 50), 50, 100)
    data = {'inputs': [image, photo(30, 60)], 'boxes': [boxes, boxes]}
    batch = run(data, pad_size_divisor=24)
    assert batch.images.shape == (2, 3, 48, 72)
    assert torch.allclose(batch.boxes[0], torch.tensor([0, 32 / 72, 16 / 48, 64 / 72, 32 / 48]))
    whole = run(data)
    assert torch.equal(batch.images[:, :, :32, :64], whole.images[:, :, :32, :64])
    assert torch.equal(batch.crops, whole.crops)
    assert run(data | {'inputs': [], 'boxes': []}, pad_size_divisor=24).images.shape[1:] == (
        3,
        64,
        64,
    )
    with pytest.raises(ValueError, match='pad_size_divisor'):
        build(pad_size_divisor=0)


def test_labels_pass_through() -> None:
    boxes = [torch.tensor([[0, 0, 0.5, 1]]), torch.zeros(0, 4), torch.tensor([[0, 0, 1, 1.0]])]
    labels = [torch.tensor([4]), torch.zeros(0, dtype=torch.long), torch.tensor([9])]
    images = [photo(40, 60)] * 3
    assert run({'inputs': images, 'boxes': boxes, 'labels': labels}).labels.tolist() == [4, 9]
    assert run({'inputs': images, 'boxes': boxes, 'labels': []}).labels is None


def test_select_keeps_images_with_their_regions() -> None:
    boxes = [torch.rand(n, 4).sort().values for n in (2, 0, 3)]
    labels = [torch.arange(2), torch.arange(0), torch.arange(10, 13)]
    data = {
        'inputs': [photo(40, 60), photo(50, 50), photo(60, 40)],
        'boxes': boxes,
        'labels': labels,
        'img_paths': ['a', 'b', 'c'],
    }
    whole = run(data)
    part = whole.select([2, 0])
    assert part.img_paths == ['c', 'a']
    assert part.img_ids.tolist() == [2, 0]
    assert part.boxes[:, 0].tolist() == [0, 0, 0, 1, 1]
    assert torch.equal(part.boxes[:, 1:], whole.boxes[[2, 3, 4, 0, 1], 1:])
    assert torch.equal(part.crops, whole.crops[[2, 3, 4, 0, 1]])
    assert torch.equal(part.images, whole.images[[2, 0]])
    assert part.labels.tolist() == [10, 11, 12, 0, 1]
    assert whole.boxes[:, 0].tolist() == [0, 0, 2, 2, 2]  # untouched
    empty = whole.select([])
    assert (len(empty), empty.num_regions) == (0, 0)


def test_description_is_json_and_follows_every_setting() -> None:
    base = json.dumps(build().description)
    for change in (
        {'image_size': 96},
        {'crop_size': 48},
        {'image_resize': 'squash'},
        {'crop_resize': 'squash'},
        {'crop_enlarge': 1.5},
        {'mean': (1.0, 2.0, 3.0)},
        {'std': (1.0, 2.0, 3.0)},
    ):
        assert json.dumps(build(**change).description) != base


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'image_resize': 'stretch'}, "image_resize: expected one of .*'stretch'"),
        ({'crop_resize': 'x'}, 'crop_resize'),
        ({'crop_enlarge': 0.5}, 'crop_enlarge'),
        ({'std': (0.27, 0.26, 0.28)}, r'scale 0\.\.255'),
        ({'image_size': 0}, 'image_size'),
        ({'crop_size': (1, 2, 3)}, 'crop_size'),
    ],
)
def test_settings_are_checked(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**change)


def test_built_by_name_leaves_no_keys_in_checkpoints() -> None:
    module = MODELS.build(
        {
            'type': 'RegionPreprocessor',
            'mean': MEAN,
            'std': STD,
            'image_size': (32, 64),
            'crop_size': 32,
        }
    )
    assert module.state_dict() == {}
    assert module({'inputs': [photo(40, 40)]})['inputs'].images.shape == (1, 3, 32, 64)


@pytest.mark.gpu
def test_gpu_equals_cpu() -> None:
    data = {'inputs': [photo(120, 90)], 'boxes': [torch.tensor([[0.1, 0.2, 0.7, 0.9]])]}
    cpu, gpu = build()(data)['inputs'], build().cuda()(data)['inputs']
    for name in ('images', 'crops', 'boxes', 'crop_boxes', 'regions', 'img_ids'):
        assert getattr(gpu, name).is_cuda
        assert torch.allclose(getattr(gpu, name).cpu(), getattr(cpu, name), atol=1e-3)
