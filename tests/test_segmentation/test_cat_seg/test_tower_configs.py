"""What every CAT-Seg config says about its tower, read without building it."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
from mmengine.config import Config

FOLDER = Path(__file__).resolve().parents[3] / 'configs' / 'segmentation' / 'cat-seg'
CONFIGS = sorted(path for path in FOLDER.glob('*.py') if 'microworld' not in path.stem)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem.split('_')[1])
def test_tower_and_what_goes_into_it(path: Path) -> None:
    model = Config.fromfile(path, import_custom_modules=False).model
    backbone, text = model.backbone, model.text_encoder
    # Both towers are of one CLIP, in the library.
    assert (backbone.model, backbone.pretrained) == (text.model, text.pretrained)
    weights = open_clip.pretrained.get_pretrained_cfg(backbone.model, backbone.pretrained)
    assert weights
    # Images come as the tower saw them.
    assert model.data_preprocessor.mean == pytest.approx([255 * x for x in weights['mean']])
    assert model.data_preprocessor.std == pytest.approx([255 * x for x in weights['std']])
    # The aggregator's windows of 12 fill a grid of 24 x 24.
    vision = open_clip.get_model_config(backbone.model)['vision_cfg']
    patch = vision.get('patch_size') or int(backbone.model.split('-')[2])
    assert tuple(model.input_size) == (24 * patch, 24 * patch)
    assert backbone.init_cfg.type == 'Pretrained'
    assert backbone.dense_mode == ('value' if 'SigLIP' in backbone.model else 'value-cls')
