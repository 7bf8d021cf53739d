"""Every config in ``configs/`` loads, names registered parts, and its model can be built."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mmengine import registry
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope, Registry

from refineclip.datasets.ov_splits import get_split

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)
PROJECT_CONFIGS = sorted(
    path for path in (ROOT / 'projects').glob('*/configs/**/*.py') if '_base_' not in path.parts
)
METAFILES = sorted((ROOT / 'configs').rglob('metafile.yml'))
PROJECT_METAFILES = sorted((ROOT / 'projects').glob('*/metafile.yml'))
# Keys whose value says where weights lie; a test has neither the files nor a network.
WEIGHT_KEYS = ('pretrained', 'init_cfg', 'checkpoint', 'weights', 'text_head')


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_weights(node: Any) -> Any:
    """Copy a config tree with all weight sources set to None, and toy text embeddings."""
    if isinstance(node, dict):
        if 'classifier' in node:  # an open-vocabulary box head, and its C names and background
            rows = len(get_split(node['classifier']['split']).classes)
            rows += not node['classifier'].get('learn_background')
            text = dict(text_embeddings=torch.ones(rows, node['fc_out_channels']))
            node = {**node, 'classifier': {**node['classifier'], 'text': text}}
        elif 'text_embeddings' in node and not torch.is_tensor(node['text_embeddings']):
            node = {**node, 'text_embeddings': torch.ones(2, 512)}  # B/16's width
        kept = {key: without_weights(value) for key, value in node.items()}
        return {key: None if key in WEIGHT_KEYS else value for key, value in kept.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(without_weights(value) for value in node)
    return node


def parts(cfg: Config) -> Iterator[tuple[Registry, str]]:
    """List what the runner would look up besides the model: (registry, type)."""
    for phase in ('train', 'val', 'test'):
        loader = cfg.get(f'{phase}_dataloader') or {}
        for key, root in (
            ('dataset', registry.DATASETS),
            ('sampler', registry.DATA_SAMPLERS),
            ('collate_fn', registry.FUNCTIONS),
        ):
            if key in loader:
                yield root, loader[key]['type']
        evaluators = cfg.get(f'{phase}_evaluator') or []
        for metric in [evaluators] if isinstance(evaluators, dict) else evaluators:
            yield registry.METRICS, metric['type']
        loop = cfg.get(f'{phase}_cfg') or {}
        if 'type' in loop:
            yield registry.LOOPS, loop['type']
    for hook in [*cfg.get('custom_hooks', []), *cfg.get('default_hooks', {}).values()]:
        yield registry.HOOKS, hook['type']
    schedulers = cfg.get('param_scheduler') or []
    for scheduler in [schedulers] if isinstance(schedulers, dict) else schedulers:
        yield registry.PARAM_SCHEDULERS, scheduler['type']
    wrapper = cfg.get('optim_wrapper') or {}
    if wrapper:
        yield registry.OPTIM_WRAPPERS, wrapper.get('type', 'OptimWrapper')
        yield registry.OPTIMIZERS, wrapper['optimizer']['type']


def find(root: Registry, kind: str) -> Any:
    """Look a type up as the runner does: in the library of the default scope first."""
    with root.switch_scope_and_registry(None) as scoped:
        return scoped.get(kind)


def build_without_memory(model: dict[str, Any]) -> torch.nn.Module:
    """Build on the meta device, where a ViT-L costs nothing; on the CPU where a part refuses it."""
    try:
        with torch.device('meta'):
            return MODELS.build(model)
    except (RuntimeError, NotImplementedError) as error:
        if 'meta tensor' not in str(error):
            raise
    return MODELS.build(model)


def load(path: Path) -> Config:
    """Read a config, skipping the test when it needs an mm library that is not installed."""
    scope = Config.fromfile(path, import_custom_modules=False).get('default_scope') or 'mmengine'
    for module in {'mmdet': ('mmdet', 'mmcv'), 'mmseg': ('mmseg', 'mmcv')}.get(scope, ()):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f'{module} is not installed')
    DefaultScope.get_instance(f'config-{path.stem}', scope_name=scope)
    return Config.fromfile(path)


def test_stems_are_unique_and_lower_case() -> None:
    # mim finds a config by its base name alone and lower-cases model names.
    assert CONFIGS, 'no config found'
    count = Counter(path.stem for path in CONFIGS + PROJECT_CONFIGS)
    assert [stem for stem, times in count.items() if times > 1] == []
    assert [stem for stem in count if stem != stem.lower()] == []


@pytest.mark.parametrize('path', CONFIGS + PROJECT_CONFIGS, ids=name_of)
def test_config_names_registered_parts(path: Path) -> None:
    cfg = load(path)
    unknown = [f'{root.name}: {kind}' for root, kind in parts(cfg) if find(root, kind) is None]
    assert unknown == []
    assert 'base_batch_size' in cfg.get('auto_scale_lr', {'base_batch_size': None})


@pytest.mark.parametrize('path', CONFIGS + PROJECT_CONFIGS, ids=name_of)
def test_config_builds_its_model(path: Path) -> None:
    cfg = load(path)
    if cfg.get('model') is None:
        pytest.skip('no model in this config')
    model = build_without_memory(ConfigDict(without_weights(cfg.model.to_dict())))
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


def test_model_index_lists_every_metafile() -> None:
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    assert sorted(index) == [name_of(path) for path in METAFILES]


@pytest.mark.parametrize('path', METAFILES + PROJECT_METAFILES, ids=name_of)
def test_metafile_points_at_real_configs(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    collections = {collection['Name'] for collection in content.get('Collections', [])}
    for model in content['Models']:
        assert (ROOT / model['Config']).is_file(), model['Config']
        assert model['Name'] == Path(model['Config']).stem
        assert model['In Collection'] in collections


@pytest.mark.parametrize('path', METAFILES + PROJECT_METAFILES, ids=name_of)
def test_metafile_lists_every_config_beside_it(path: Path) -> None:
    listed = {model['Name'] for model in yaml.safe_load(path.read_text())['Models']}
    folder = path.parent / 'configs' if path in PROJECT_METAFILES else path.parent
    assert {config.stem for config in folder.glob('*.py')} == listed
