"""CAT-Seg at its real size, random weights: B/16, windows of 384 px, peak memory."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('mmseg.models')

from benchmarks.forks import in_new_process, peak_growth
from benchmarks.segmentation import build
from refineclip.segmentation.cat_seg.window_inference import predict_labels

pytestmark = [
    pytest.mark.mm,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != 'linux', reason='peak memory is read from /proc'),
]


def segment(classes: int) -> tuple[float, list[int], int]:
    """Peak growth in MiB, shape of the labels, and how many classes were predicted."""
    torch.set_num_threads(1)
    model = build(quick=False)
    text = F.normalize(torch.randn(classes, 512), dim=-1)
    image = torch.randn(3, 480, 640)
    results = []

    def call() -> None:
        with torch.inference_mode():
            views = model.score_views(model.plan.views(image), text)
            results.append(predict_labels(views, model.plan, (480, 640), model.class_chunk))

    peak = peak_growth(call)
    (labels,) = results
    assert labels.min() >= 0
    assert labels.max() < classes
    return peak, list(labels.shape), len(labels.unique())


@pytest.mark.parametrize('classes', [150, 847])
def test_peak_memory(classes):
    """All 847 maps at 480 x 640 alone would take 993 MiB, at the size of the windows 2,382 MiB."""
    peak, shape, predicted = in_new_process(segment, classes)
    assert shape == [480, 640]
    assert predicted > 1
    assert peak < 3 * 1024
