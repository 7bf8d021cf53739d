"""Numbers of published recipes, as the configs resolve them; each test names its source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
from mmengine.config import Config, ConfigDict

ROOT = Path(__file__).resolve().parents[1]
FVIT = ROOT / 'configs/detection/fvit'
CAUSE = ROOT / 'projects/cause/configs'
DISTILL = ROOT / 'configs/distill/r-sc-clipself'
TOWERS = {
    'eva02-vit-b16': 1024,
    'eva02-vit-l14-336': 896,
    'openai-vit-b16': 1024,
    'openai-vit-l14-336': 896,
    'siglip2-vit-b16': 1024,
    'siglip2-vit-l16-384': 1024,
    'dfn-vit-b16': 1024,
    'dfn-vit-l14': 896,
}


def distill_config(tower: str) -> Path:
    return DISTILL / f'r-sc-clipself_{tower}_8xb2-amp-6e_coco-{TOWERS[tower]}.py'


def read(path: Path) -> Config:
    """Resolve a config without importing what it needs."""
    return Config.fromfile(path, import_custom_modules=False)


def model_of(stem: str, folder: Path = FVIT) -> ConfigDict:
    return read(folder / f'{stem}.py').model


def towers(node: Any) -> Iterator[tuple[str, str]]:
    """Every name of a library's model that stands beside a tag, anywhere in a config."""
    if isinstance(node, dict):
        if isinstance(node.get('model'), str) and isinstance(node.get('pretrained'), str):
            yield node['model'], node['pretrained']
        node = list(node.values())
    if isinstance(node, list | tuple):
        for one in node:
            yield from towers(one)


@pytest.mark.parametrize(
    'path',
    [
        path
        for name in ('openai', 'dfn')
        for path in sorted(ROOT.glob(f'configs/*/*/*_{name}-*.py'))
    ],
    ids=lambda path: path.stem,
)
def test_quick_gelu_is_in_the_name(path: Path) -> None:
    """So it stays when a file takes the place of the tag, which knows of it."""
    found = set(towers(read(path).to_dict()))
    assert found
    for model, tag in found:
        asked = open_clip.get_pretrained_cfg(model, tag)['quick_gelu']
        assert open_clip.get_model_config(model)['quick_gelu'] is asked is True


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


def test_openai_l14_as_its_author_ran_it() -> None:
    """CLIPSelf issue 25: 672 px, the last 6 or 12 layers; 2 images a step as its code runs."""
    cfg = read(DISTILL / 'r-sc-clipself_openai-vit-l14-336_1xb2-amp-44k_coco-672.py')
    assert (cfg.model.data_preprocessor.image_size, cfg.model.data_preprocessor.crop_size) == (
        672,
        336,
    )
    assert cfg.model.student.trainable_blocks == 12
    assert (cfg.train_dataloader.batch_size, cfg.train_cfg.max_iters) == (2, 44358)
    ensemble = [hook for hook in cfg.custom_hooks if hook.type == 'WeightEnsembleHook']
    assert [hook.alpha for hook in ensemble] == [0.95]


@pytest.mark.parametrize('tower', TOWERS)
def test_distillation_fits_its_tower(tower: str) -> None:
    """CLIPSelf: 64 x 64 tokens, crops of the native size, the tower's own normalisation."""
    cfg = read(distill_config(tower))
    preprocessor, student = cfg.model.data_preprocessor, cfg.model.student
    library = open_clip.get_pretrained_cfg(student.model, student.pretrained)
    for name in ('mean', 'std'):
        own = [255 * value for value in library[name]]
        assert preprocessor[name] == pytest.approx(own, abs=1e-3)
    vision = open_clip.get_model_config(student.model)['vision_cfg']
    assert preprocessor.crop_size == vision['image_size']
    patch = 14 if 'l14' in tower else 16
    assert preprocessor.image_size == TOWERS[tower] == 64 * patch
    # T2: the published code looks for 'vit' in the model's name, which EVA's has not.
    betas = (0.9, 0.999) if tower.startswith('eva02') else (0.9, 0.98)
    assert tuple(cfg.optim_wrapper.optimizer.betas) == betas
    # The checkpoint that stage 2 waits for is the one that stage 1 of the same tower writes.
    stem = Path(cfg.model.refiner.checkpoint).parent.name
    stage1 = read(ROOT / f'configs/refiner/clip/{stem}.py').model
    assert (stage1.encoder.model, stage1.encoder.pretrained) == (student.model, student.pretrained)
    assert stage1.encoder.refiner.num_blocks == cfg.model.refiner.num_blocks
    assert stage1.data_preprocessor.mean == preprocessor.mean


@pytest.mark.parametrize('tower', TOWERS)
def test_fvit_fits_its_tower_and_takes_refined_weights_by_one_key(tower: str) -> None:
    size = 640 if 'b16' in tower else 896
    cfg = read(FVIT / f'fvit_{tower}_8xb8-amp-3e_ov-coco-{size}.py')
    model = cfg.model
    box_head = model.roi_head.bbox_head
    library = open_clip.get_model_config(model.backbone.model)
    assert box_head.fc_out_channels == library['embed_dim']
    for owner in (box_head.classifier.text, read(distill_config(tower)).model.student):
        assert (owner.model, owner.pretrained) == (model.backbone.model, model.backbone.pretrained)
    assert model.data_preprocessor.pad_size_divisor == size
    assert model.backbone.out_indices == ((3, 5, 7, 11) if 'b16' in tower else (6, 10, 14, 23))
    strides = [3.5, 7, 14, 28] if 'l14' in tower else [4, 8, 16, 32]
    assert model.roi_head.bbox_roi_extractor.featmap_strides == strides
    assert model.rpn_head.anchor_generator.strides[:4] == strides
    assert model.backbone.init_cfg == dict(type='Pretrained', checkpoint=None)
