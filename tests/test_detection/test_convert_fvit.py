"""Published F-ViT key names go onto our modules, and a hole on either side ends the conversion."""

from __future__ import annotations

import copy
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from timm.models import register_model
from torch import Tensor, nn

from tests.test_detection.toys import CONFIG, embeddings

pytestmark = pytest.mark.mm

State = dict[str, Tensor]
NAMES = ('person', 'car', 'dog')
HEAD = 'roi_head.bbox_head.'
# Our names -> mmdet 2.28's, by hand and in the other direction than the tool's.
PUBLISHED = (
    (r'^neck\.0\.levels\.0\.(\d)\.', r'backbone.interpolate1.\1.'),
    (r'^neck\.0\.levels\.1\.', 'backbone.interpolate2.0.'),
    (r'^neck\.1\.', 'neck.'),
    (r'fc_cls\.projection\.', 'cls_fcs.0.'),
    (r'fc_cls\.temperature$', 'detect_temperature'),
)
EVA = (
    ('visual.model.trunk.', 'visual.'),
    ('attn.norm.', 'attn.inner_attn_ln.'),
    ('mlp.norm.', 'mlp.ffn_ln.'),
    ('mlp.fc1_g.', 'mlp.w1.'),
    ('mlp.fc1_x.', 'mlp.w2.'),
    ('mlp.fc2.', 'mlp.w3.'),
    ('attn.q_proj.bias', 'attn.q_bias'),
    ('attn.v_proj.bias', 'attn.v_bias'),
)
OPENAI = (('visual.model.', 'visual.'),)


@register_model
def refineclip_toy_eva02_fvit(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    sizes = dict(img_size=64, embed_dim=128, depth=5, num_heads=4, patch_size=8)
    return timm.create_model('eva02_base_patch16_clip_224', **{**sizes, **kwargs})


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / 'tools' / 'convert' / 'fvit.py'
    spec = importlib.util.spec_from_file_location('tool_convert_fvit', path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def toy_config(family: str, learn_background: bool = False) -> Config:
    """The toy detector, on a tower of a family."""
    config = Config.fromfile(CONFIG)
    config.custom_imports = dict(imports=['refineclip.detection'], allow_failed_imports=False)
    model = config.model
    model.backbone.update(pretrained=None, init_cfg=None)
    if family == 'eva02':
        vision = dict(
            image_size=64,
            timm_model_name='refineclip_toy_eva02_fvit',
            timm_pool='token',
            timm_proj=None,
        )
        model.backbone.model = dict(embed_dim=128, vision_cfg=vision)
    classifier = model.roi_head.bbox_head.classifier
    classifier.pop('split', None)
    classifier.update(
        names=list(NAMES), base_names=list(NAMES[:2]), learn_background=learn_background
    )
    return config


def build(config: Config) -> Any:
    """A detector all of whose weights are far from their initial values."""
    model = copy.deepcopy(config.model)
    classifier = model.roi_head.bbox_head.classifier
    rows = len(NAMES) + (not classifier.learn_background)
    classifier.text = dict(text_embeddings=embeddings(rows))
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MODELS.build(model)
    for tensor in detector.state_dict().values():
        if tensor.is_floating_point():
            tensor += 0.05 * torch.rand(tensor.shape)
    return detector.eval()


def publish(detector: Any, family: str) -> State:
    """The state dict that mmdet 2.28's F-ViT would have saved."""
    state: State = {}
    for key, tensor in detector.state_dict().items():
        if key.startswith('backbone.'):
            for ours, theirs in EVA if family == 'eva02' else OPENAI:
                key = key.replace(ours, theirs)
        else:
            for ours, theirs in PUBLISHED:
                key = re.sub(ours, theirs, key)
        state[key] = tensor.clone()
    classifier = detector.roi_head.bbox_head.fc_cls
    state[f'{HEAD}all_embeddings'] = classifier.embeddings.detach().T.clone()
    if classifier.learn_background:
        state[f'{HEAD}bg_embedding'] = state.pop(f'{HEAD}fc_cls.background').T
    state[f'{HEAD}fc_cls.weight'] = torch.zeros(4, 128)
    state[f'{HEAD}fc_cls.bias'] = torch.zeros(4)
    if family == 'eva02':
        for owner in ('visual.rope', 'visual.blocks.0.attn.rope'):
            state[f'backbone.{owner}.freqs_cos'] = torch.zeros(64, 64)
    return state


class Published:
    """A toy checkpoint and its config on the disk."""

    def __init__(self, folder: Path, family: str = 'eva02', learn_background: bool = False) -> None:
        self.config = toy_config(family, learn_background)
        self.detector = build(self.config)
        self.state = publish(self.detector, family)
        self.folder, self.out = folder, folder / 'out.pth'
        self.config.dump(folder / 'config.py')

    def convert(self, tool: ModuleType, *options: str) -> int:
        torch.save(dict(meta={}, state_dict=self.state), self.folder / 'in.pth')
        config = ('--config', str(self.folder / 'config.py'))
        return tool.main([str(self.folder / 'in.pth'), str(self.out), *config, *options])


def scores(detector: Any) -> Tensor:
    """What test-time scores depend on, of an image and two boxes."""
    torch.manual_seed(1)
    images = torch.randn(1, 3, 64, 64)
    boxes = torch.tensor([[0.0, 4, 4, 40, 40], [0, 10, 20, 60, 60]])
    with torch.no_grad():
        taps = detector.backbone(images)
        levels = detector.neck(taps)
        rpn = detector.rpn_head(levels)
        found = detector.roi_head._bbox_forward(levels, boxes)
        parts = [
            found['cls_score'],
            found['bbox_pred'],
            detector.backbone.project_map(taps[-1]),
            rpn[0][0],
        ]
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize('family', ['eva02', 'openai'])
@pytest.mark.parametrize('learn_background', [False, True])
def test_converted_detector_is_the_same_detector(
    tool: ModuleType, tmp_path: Path, family: str, learn_background: bool
) -> None:
    published = Published(tmp_path, family, learn_background)
    assert published.convert(tool) == 0
    converted = torch.load(published.out, weights_only=True)
    assert converted['meta']['dataset_meta']['classes'] == NAMES
    fresh = build(published.config)
    for tensor in fresh.state_dict().values():
        if tensor.is_floating_point():
            tensor.zero_()
    missing, unexpected = fresh.load_state_dict(converted['state_dict'], strict=True)
    assert (missing, unexpected) == ([], [])
    torch.testing.assert_close(scores(fresh), scores(published.detector))


def test_table_says_what_went_where(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Published(tmp_path).convert(tool)
    out = capsys.readouterr().out
    assert re.search(
        r'2  roi_head\.bbox_head\.cls_fcs\.\* -> roi_head\.bbox_head\.fc_cls\.proj', out
    )
    assert re.search(r'2  backbone\.interpolate2\.\* -> neck\.\*\.levels', out)
    assert re.search(r"2  roi_head\.bbox_head\.fc_cls left out: mmdet's classifier", out)
    assert 'out.pth --cfg-options model.backbone.pretrained=None\n' in out


@pytest.mark.parametrize(
    ('key', 'hole'),
    [
        ('backbone.interpolate1.3.weight', 'nothing for neck.0.levels.0.3.weight'),
        (f'{HEAD}reg_fcs.0.bias', f'nothing for {HEAD}reg_fcs.0.bias'),
        (f'{HEAD}detect_temperature', f'nothing for {HEAD}fc_cls.temperature'),
        ('backbone.visual.blocks.1.norm1.weight', 'blocks.1.norm1.weight'),
    ],
)
def test_a_missing_tensor_is_a_hole(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, hole: str
) -> None:
    published = Published(tmp_path)
    del published.state[key]
    assert published.convert(tool) == 1
    assert hole in capsys.readouterr().err
    assert not published.out.exists()


@pytest.mark.parametrize(
    ('key', 'hole'),
    [
        ('roi_head.mask_head.convs.0.conv.weight', 'no place for roi_head.mask_head.convs.0.conv'),
        ('backbone.visual.blocks.9.norm1.weight', 'blocks.9.norm1.weight'),
        ('neck.extra', 'no place for neck.extra (2,)'),
    ],
)
def test_a_tensor_without_a_place_is_a_hole(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, hole: str
) -> None:
    published = Published(tmp_path)
    published.state[key] = torch.zeros(2)
    assert published.convert(tool) == 1
    assert hole in capsys.readouterr().err
    assert not published.out.exists()


def test_another_shape_is_a_hole(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = Published(tmp_path)
    published.state['neck.fpn_convs.0.conv.weight'] = torch.zeros(3, 3, 3, 3)
    assert published.convert(tool) == 1
    assert (
        'neck.fpn_convs.0.conv.weight has shape (3, 3, 3, 3), expected' in capsys.readouterr().err
    )


def test_class_embeddings_of_the_file(tool: ModuleType, tmp_path: Path) -> None:
    from refineclip.encoders.text.embedder import load_text_embeddings

    published = Published(tmp_path)
    file = tmp_path / 'text.safetensors'
    assert published.convert(tool, '--text-embeddings', str(file)) == 0
    rows, names = load_text_embeddings(file)
    assert names == [*NAMES, 'background']
    torch.testing.assert_close(rows, published.detector.roi_head.bbox_head.fc_cls.embeddings)


def test_other_files_are_refused(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({'conv1.weight': torch.zeros(1)}, tmp_path / 'in.pth')
    assert tool.main([str(tmp_path / 'in.pth'), str(tmp_path / 'out.pth')]) == 1
    assert 'expected an F-ViT checkpoint with keys backbone.visual.*' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='2'):
        tool.main([str(tmp_path / 'absent.pth'), str(tmp_path / 'out.pth')])


@pytest.mark.parametrize('masks', [False, True])
@pytest.mark.parametrize('width', [768, 1024])
@pytest.mark.parametrize('family', ['eva02', 'openai'])
def test_config_is_recognised(tool: ModuleType, family: str, width: int, masks: bool) -> None:
    patches = 'patch_embed.proj.weight' if family == 'eva02' else 'conv1.weight'
    state = {f'backbone.visual.{patches}': torch.zeros(width, 1), f'{HEAD}fc_reg.weight': None}
    if masks:
        state['roi_head.mask_head.conv_logits.weight'] = None
    name = tool.find_config(state).name
    assert family in name
    assert ('l14' in name) == (width == 1024)
    assert ('ov-lvis' in name) == masks


def convolution(name: str, out: int, into: int, size: int) -> dict[str, tuple[int, ...]]:
    """A convolution and its SyncBN, as mmcv's ConvModule names them."""
    norm = {f'{name}.bn.{part}': (out,) for part in ('weight', 'bias', 'running_mean')}
    norm[f'{name}.bn.running_var'] = (out,)
    norm[f'{name}.bn.num_batches_tracked'] = ()
    return {f'{name}.conv.weight': (out, into, size, size), **norm}


def linear(name: str, out: int, *into: int) -> dict[str, tuple[int, ...]]:
    return {f'{name}.weight': (out, *into), f'{name}.bias': (out,)}


def published_shapes(width: int, dim: int, lvis: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes outside of the tower, from the published configs and modules of mmdet 2."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index in (0, 3):
        shapes |= linear(f'backbone.interpolate1.{index}', width, width, 2, 2)
        shapes[f'backbone.interpolate1.{index}.bias'] = (width,)
    norm = convolution('x', width, 1, 1)
    shapes |= {
        k.replace('x.bn', 'backbone.interpolate1.1'): v for k, v in norm.items() if 'bn' in k
    }
    shapes |= linear('backbone.interpolate2.0', width, width, 2, 2)
    for level in range(4):
        shapes |= convolution(f'neck.lateral_convs.{level}', 256, width, 1)
        shapes |= convolution(f'neck.fpn_convs.{level}', 256, 256, 3)
    for index in range(2):
        name = f'rpn_head.rpn_conv.{index}'
        plain = linear(f'{name}.conv', 256, 256, 3, 3)
        shapes |= convolution(name, 256, 256, 3) if lvis else plain
    shapes |= linear('rpn_head.rpn_cls', 3, 256, 1, 1) | linear('rpn_head.rpn_reg', 12, 256, 1, 1)
    for index in range(4):
        shapes |= convolution(f'{HEAD}shared_convs.{index}', 256, 256, 3)
        if lvis:
            shapes |= convolution(f'roi_head.mask_head.convs.{index}', 256, 256, 3)
    shapes |= linear(f'{HEAD}shared_fcs.0', dim, 256 * 49)
    shapes |= linear(f'{HEAD}shared_fcs.1', dim, dim)
    shapes |= linear(f'{HEAD}cls_fcs.0', dim, dim) | linear(f'{HEAD}reg_fcs.0', dim, dim)
    shapes |= linear(f'{HEAD}fc_reg', 4, dim)
    shapes[f'{HEAD}detect_temperature'] = ()
    classes = 1203 if lvis else 65
    shapes |= linear(f'{HEAD}fc_cls', classes + 1, dim)
    shapes[f'{HEAD}all_embeddings'] = (dim, classes + 1)
    if lvis:
        shapes |= linear('roi_head.mask_head.upsample', 256, 256, 2, 2)
        shapes |= linear('roi_head.mask_head.conv_logits', 1, 256, 1, 1)
    return shapes


@pytest.mark.parametrize('lvis', [False, True])
@pytest.mark.parametrize(('tower', 'width', 'dim'), [('b16', 768, 512), ('l14-336', 1024, 768)])
def test_published_names_and_shapes_leave_no_hole_in_the_real_configs(
    tool: ModuleType, tower: str, width: int, dim: int, lvis: bool
) -> None:
    data = 'ov-lvis' if lvis else 'ov-coco'
    (path,) = tool.CONFIGS.glob(f'*_eva02-vit-{tower}_8xb8-*_{data}-*.py')
    config = Config.fromfile(path)
    state = {
        name: torch.empty(shape, device='meta')
        for name, shape in published_shapes(width, dim, lvis).items()
    }
    state[f'{HEAD}all_embeddings'] = torch.rand(state[f'{HEAD}all_embeddings'].shape)
    with torch.device('meta'):
        detector = tool.build_model(config, state)
    converted, holes = tool.convert_rest(state, detector)
    assert holes == []
    assert len(converted) == len(state) - 3  # mmdet's classifier and the embeddings
