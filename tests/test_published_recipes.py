"""Numbers of published recipes, as the configs resolve them; each test names its source."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict

ROOT = Path(__file__).resolve().parents[1]
FVIT = ROOT / 'configs/detection/fvit'
CAUSE = ROOT / 'projects/cause/configs'


def read(path: Path) -> Config:
    """Resolve a config without importing what it needs."""
    return Config.fromfile(path, import_custom_modules=False)


def model_of(stem: str, folder: Path = FVIT) -> ConfigDict:
    return read(folder / f'{stem}.py').model


@pytest.mark.parametrize(('target', 'share'), [('coco', 0.2), ('objects365', 0.3), ('voc', 0.3)])
def test_transfer_takes_the_published_share_of_the_clip_map(target: str, share: float) -> None:
    """CLIPSelf, F-ViT/configs/transfer: one alpha for all classes, temperatures 50 and 120."""
    fusion = model_of(f'fvit_eva02-vit-l14-336_lvis-to-{target}-896').roi_head.score_fusion
    assert fusion == dict(alpha=share, beta=share, vlm_temperature=120.0, det_temperature=50.0)


@pytest.mark.parametrize('path', sorted(FVIT.glob('*.py')), ids=lambda path: path.stem)
def test_fvit_proposals_and_assigners_are_the_published_ones(path: Path) -> None:
    """CLIPSelf, F-ViT/configs: nms_pre 2000 in training and test; low-quality matches on LVIS."""
    cfg = read(path)
    for rpn in (cfg.model.train_cfg.rpn_proposal, cfg.model.test_cfg.rpn):
        assert (rpn.nms_pre, rpn.max_per_img, rpn.nms.iou_threshold) == (2000, 1000, 0.7)
    if 'train_dataloader' in cfg:
        on_lvis = 'ov-lvis' in path.stem
        assert cfg.model.train_cfg.rcnn.assigner.match_low_quality is on_lvis
        assert cfg.model.train_cfg.rpn.assigner.match_low_quality is True


@pytest.mark.parametrize(
    ('stem', 'decay', 'clip'),
    [
        ('cause-tr_eva02-vit-b16_1xb16-2e_cocostuff27-320', 1e-4, 2.0),
        ('cause-tr_eva02-vit-b16_1xb16-2e_cityscapes27-320', 0, 1.0),
        ('cause-mlp_eva02-vit-b16_1xb16-2e_cocostuff27-320', 1e-4, 0.1),
        ('cause-tr_dinov2-vit-s14_1xb16-2e_coco-pilot-224', 1e-4, 2.0),
        ('cause-mlp_dinov2-vit-s14_1xb16-2e_coco-pilot-224', 1e-4, 0.1),
    ],
)
def test_cause_stage_2_takes_the_published_optimiser(stem: str, decay: float, clip: float) -> None:
    """CAUSE, train_front_door_{tr,mlp}.py: Adam at 1e-3 per GPU, decay and clipping by data set."""
    wrapper = read(CAUSE / f'{stem}.py').optim_wrapper
    assert wrapper.optimizer == dict(type='Adam', lr=1e-3, weight_decay=decay)
    assert wrapper.clip_grad == dict(max_norm=clip)
