"""Heads fitted on labelled crops."""

from __future__ import annotations

from pathlib import Path

import torch

from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.encoders import RefinerCLIP
from refineclip.encoders.text.text_head import TextHead
from refineclip.evaluation.regions.head_fitting import fit_head, label_crops
from tests.test_distill.toys import TOWER
from tests.test_evaluation.toy_panoptic import write_coco


def test_a_head_knows_the_crops_that_it_was_fitted_on(tmp_path: Path):
    images = CocoPanoptic(write_coco(tmp_path), 'val2017').images
    crops = label_crops(RefinerCLIP(TOWER).eval().visual, images, crop_size=32)
    assert len(crops.labels) == 16
    text = torch.eye(4)
    head = fit_head(crops.embedding, crops.labels, text, ridge=1e-3)
    assert (head.classify(crops.embedding, text).argmax(1) == crops.labels).float().mean() > 0.9
    whole = TextHead.fit(crops.embedding, text[crops.labels], 1e-3, text_mean=text.mean(0))
    assert torch.equal(head.weight, whole.weight)
