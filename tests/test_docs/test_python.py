"""Python in the pages runs or, where a download or training is needed, calls what is there."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from mmengine import registry as registries
from mmengine.registry import Registry

import refineclip.evaluation  # noqa: F401  (registers what the pages name)
from refineclip.encoders.towers import dense_modes
from tests.test_docs.pages import PAGES, blocks, name_of

BLOCKS = [
    pytest.param(code, id=f'{name_of(page)}-{number}')
    for page in PAGES
    for number, code in enumerate(blocks(page, 'python'))
]
# Weights that are downloaded or trained, and data that is not shipped.
NEEDS = re.compile(r"'openai'|\.pth|\.safetensors|\.npy|data/|_base_ = |photos/|\.onnx")


def check_imports(tree: ast.AST) -> dict[str, Any]:
    """Run the imports of code.

    Returns:
        Name in the code -> what it is.
    """
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                names[one.asname or one.name] = importlib.import_module(one.name)
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for one in node.names:
                names[one.asname or one.name] = getattr(module, one.name)
    return names


def registered(name: str) -> Any:
    """A class or function that configs name, of this package or the libraries."""
    roots = [one for one in vars(registries).values() if isinstance(one, Registry)]
    for prefix in ('', 'mmdet.', 'mmseg.'):
        for root in roots:
            found = root.get(prefix + name)
            if found is not None:
                return found
    raise LookupError(f'nothing is registered as {name}')


def check_calls(tree: ast.AST, names: dict[str, Any]) -> None:
    """Keywords of calls, and of ``dict(type=...)``, are those that the called takes."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        keywords = {one.arg: one.value for one in node.keywords if one.arg is not None}
        called = names.get(node.func.id)
        if node.func.id == 'dict' and isinstance(keywords.get('type'), ast.Constant):
            name = keywords.pop('type').value
            called = None if name in own else registered(name)
        if called is not None:
            check_keywords(called, set(keywords) - {'_delete_', 'init_cfg'})


def check_keywords(called: Any, keywords: set[str]) -> None:
    """A class may hand keywords on to those that it derives from."""
    chain = [one.__init__ for one in called.__mro__] if inspect.isclass(called) else [called]
    taken: set[str] = set()
    for function in chain:
        parameters = inspect.signature(function).parameters
        taken |= set(parameters)
        if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            break
    assert keywords <= taken, f'{called.__name__} takes no {sorted(keywords - taken)}'


@pytest.mark.mm
@pytest.mark.parametrize('code', BLOCKS)
def test_block(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # What a page registers is gone after it.
    monkeypatch.setattr(dense_modes, '_MODES', dict(dense_modes._MODES))
    importlib.import_module('refineclip.detection')
    importlib.import_module('refineclip.segmentation')
    importlib.import_module('refineclip.visualization')
    tree = ast.parse(code)
    check_calls(tree, check_imports(tree))
    if not NEEDS.search(code):
        exec(compile(tree, 'page', 'exec'), {'__name__': 'page'})


@pytest.mark.mm
def test_code_that_is_wrong_is_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        check_imports(ast.parse('import refineclip.nowhere'))
    with pytest.raises(AttributeError):
        check_imports(ast.parse('from refineclip.encoders import nothing'))
    tree = ast.parse('from refineclip.encoders import build_clip\nbuild_clip("a", prtrained="b")')
    with pytest.raises(AssertionError, match='takes no'):
        check_calls(tree, check_imports(tree))
    with pytest.raises(AssertionError, match='RefinerCLIP takes no'):
        check_calls(ast.parse('model = dict(type="RefinerCLIP", models="a")'), {})
    with pytest.raises(LookupError):
        check_calls(ast.parse('dict(type="NoSuchThing")'), {})
