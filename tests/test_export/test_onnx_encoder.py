"""Graphs that onnxruntime runs; each takes some seconds to trace, so most tests are slow."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from refineclip.encoders import RefinerCLIP
from refineclip.export.compare import compare, drawn_picture, require_equal
from refineclip.export.errors import ExportMismatchError
from refineclip.export.onnx_encoder import check_sizes, export_onnx
from refineclip.export.onnx_graph import OPSET, Graph, compare_graph, write_graph
from refineclip.export.subject import load_subject

from .toys import assert_no_pickle, files, randomize, toy_folder


class Double(torch.nn.Module):
    def forward(self, x):
        return (x * 2,)


class Triple(torch.nn.Module):
    def forward(self, x):
        return (x * 3,)


def test_a_graph_keeps_its_free_size_and_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / 'double.onnx'
    graph = Graph(
        Double(), {'x': torch.ones(2, 3)}, ('y',), {'x': {0: 'rows'}}, dict(input='x: any')
    )
    write_graph(graph, path)
    require_equal(compare_graph(graph, path, {'five rows': {'x': torch.rand(5, 3)}}))
    model = onnx.load(str(path))
    assert {one.domain: one.version for one in model.opset_import}[''] == OPSET
    notes = {one.key: one.value for one in model.metadata_props}
    assert notes['input'] == 'x: any'
    assert notes['opset'] == str(OPSET)
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [shape[0].dim_param, shape[1].dim_value] == ['rows', 3]
    # Another module than the one in the file is found out.
    other = Graph(Triple(), graph.inputs, graph.outputs, graph.free, {})
    with pytest.raises(ExportMismatchError, match=r'in double.onnx y, twos'):
        require_equal(compare_graph(other, path, {'twos': {'x': torch.full((2, 3), 2.0)}}))


def test_what_cannot_be_traced_is_named_with_the_version(tmp_path: Path) -> None:
    class Branching(torch.nn.Module):
        def forward(self, x):
            return (x + 1 if x.sum() > 0 else x,)

    graph = Graph(Branching(), {'x': torch.ones(2)}, ('y',), {}, {})
    with pytest.raises(
        ValueError, match=re.escape(f'exporter of torch {torch.__version__} can trace')
    ):
        write_graph(graph, tmp_path / 'branching.onnx')
    assert not list(tmp_path.iterdir())


def test_sizes_are_whole_patches() -> None:
    check_sizes([(32, 48)], 16)
    with pytest.raises(ValueError, match=r'the patch of 16 px, got 30x50; .* is 32x48'):
        check_sizes([(32, 48), (30, 50)], 16)
    with pytest.raises(ValueError, match='is 16x16'):
        check_sizes([(1, 16)], 16)


def test_a_text_graph_needs_a_text_tower(tmp_path: Path) -> None:
    subject = load_subject('timm/test_vit', 'random')
    with pytest.raises(ValueError, match='expected a text tower beside the image tower'):
        export_onnx(subject, tmp_path, drawn_picture())


@pytest.mark.slow
@pytest.mark.parametrize('name', ['quick_gelu', 'eva02', 'siglip', 'pe_core', 'mobileclip_b'])
def test_two_sizes_of_every_family(name: str, tmp_path: Path) -> None:
    model = toy_folder(tmp_path / 'toy', name)
    out = tmp_path / 'out'
    out.mkdir()
    subject = load_subject(model, model)
    sizes = [(64, 64), (32, 80)]
    found, ratios = export_onnx(subject, out, drawn_picture(), sizes, text=name == 'quick_gelu')
    require_equal(found)
    names = {'image_64x64.onnx', 'image_32x80.onnx'}
    if name == 'quick_gelu':
        names.add('text.onnx')
    assert files(out) == names == set(ratios)
    assert all(ratio > 0 for ratio in ratios.values())
    assert_no_pickle(out)


@pytest.mark.slow
def test_the_readme_in_numpy_gives_the_refined_map_and_the_own_embedding(tmp_path: Path) -> None:
    encoder = RefinerCLIP('microworld-clip', 'shipped', refiner=dict(num_blocks=2)).eval()
    randomize(encoder.refiner)
    state = {f'encoder.{key}': value for key, value in encoder.state_dict().items()}
    torch.save(state, tmp_path / 'stage1.pth')
    subject = load_subject('microworld-clip', str(tmp_path / 'stage1.pth'))
    found, _ = export_onnx(subject, tmp_path, drawn_picture(), [(64, 96)], text=False)
    require_equal(found)
    session = onnxruntime.InferenceSession(str(tmp_path / 'image_64x96.onnx'))
    photo = np.asarray(drawn_picture().resize((96, 64)), np.float32)
    dense, embedding = session.run(None, {'images': photo.transpose(2, 0, 1)[None] / 255})
    images = (torch.from_numpy(photo).permute(2, 0, 1)[None] / 255 - 0.5) / 0.25
    with torch.no_grad():
        require_equal([compare('dense', encoder.dense(images), torch.from_numpy(dense))])
        own = encoder.image_embedding(images)
        require_equal([compare('embedding', own, torch.from_numpy(embedding))])


@pytest.mark.slow
def test_nothing_after_the_end_of_a_prompt_is_read(tmp_path: Path) -> None:
    model = toy_folder(tmp_path / 'toy', 'open_clip')
    export_onnx(load_subject(model, model), tmp_path, drawn_picture(), image=False)
    session = onnxruntime.InferenceSession(str(tmp_path / 'text.onnx'))
    tokens = np.array([[49406, 5, 7, 49407, *[0] * 12]])
    other_tail, other_word = tokens.copy(), tokens.copy()
    other_tail[0, 4:], other_word[0, 1] = 11, 6
    [plain], [tail], [word] = (
        session.run(None, {'tokens': one}) for one in (tokens, other_tail, other_word)
    )
    np.testing.assert_allclose(tail, plain, atol=1e-6)  # the causal mask is in the graph
    assert np.abs(word - plain).max() > 1e-3
