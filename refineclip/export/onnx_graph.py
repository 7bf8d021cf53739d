"""One module as one ONNX graph: written, run by onnxruntime, compared and timed."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from .compare import Comparison, compare

OPSET = 18
# Protocol buffers end at 2 GB; larger weights lie in a file beside the graph.
MAX_INLINE_BYTES = 1_900_000_000
NUM_TIMED = 5
MAX_SIZE = 2**16

Input = Tensor | tuple[Tensor, ...]
Inputs = Mapping[str, Input]


@dataclass
class Graph:
    """A module that becomes a graph.

    Attributes:
        module: Takes the inputs in their order and returns a tuple of the outputs.
        inputs: Name -> an example; where a size may change, an example of 1 would fix it.
        outputs: Names.
        free: Input -> axis -> name of the sizes that may change; all others are fixed.
        notes: What a reader of the file should know, written into it.
        limits: Name of such a size -> least and largest.
    """

    module: nn.Module
    inputs: Inputs
    outputs: Sequence[str]
    free: Mapping[str, Mapping[int, str]]
    notes: Mapping[str, str]
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def write_graph(graph: Graph, path: Path) -> None:
    """Trace a module and write its graph.

    Raises:
        ValueError: If PyTorch's exporter cannot; with its own words and version.
    """
    module = graph.module.eval()
    arguments = tuple(graph.inputs.values())
    names = {name for axes in graph.free.values() for name in axes.values()}
    sizes = {}
    for name in sorted(names):
        least, largest = graph.limits.get(name, (1, MAX_SIZE))
        sizes[name] = torch.export.Dim(name, min=least, max=largest)
    shapes: tuple[Any, ...] = tuple(
        ({},) * len(value)
        if isinstance(value, tuple)
        else {axis: sizes[size] for axis, size in graph.free.get(name, {}).items()}
        for name, value in graph.inputs.items()
    )
    with _tracing():
        module(*arguments)  # fills caches of positions, which the trace then holds as constants
        try:
            traced = torch.export.export(module, arguments, dynamic_shapes=shapes, strict=False)
            program = torch.onnx.export(
                traced,
                arguments,
                input_names=list(flatten(graph.inputs)),
                output_names=list(graph.outputs),
                dynamic_shapes=shapes,  # their names
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        # The exporter fails with errors of any type.
        except Exception as error:
            raise ValueError(
                f'expected a model that the ONNX exporter of torch {torch.__version__} can trace, '
                f'got {type(error).__name__}: {str(error).strip().splitlines()[0]}'
            ) from error
    assert program is not None
    notes = {**graph.notes, 'opset': str(OPSET)}
    program.model.metadata_props.update(notes)
    program.model.doc_string = '; '.join(f'{key}: {value}' for key, value in notes.items())
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    program.save(path, external_data=size > MAX_INLINE_BYTES)
    onnx.checker.check_model(str(path))


@contextmanager
def _tracing() -> Iterator[None]:
    """No gradients, no inference path of ``nn.MultiheadAttention``, no progress on stdout."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'onnxscript', 'onnx_ir')]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), redirect_stdout(io.StringIO()):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def open_graph(path: Path) -> onnxruntime.InferenceSession:
    """Open a graph with onnxruntime on one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def flatten(inputs: Inputs) -> dict[str, Tensor]:
    """Inputs of a graph; several under one name (``maps``) are numbered (``maps_0``)."""
    flat = {}
    for name, value in inputs.items():
        if isinstance(value, tuple):
            flat.update({f'{name}_{index}': one for index, one in enumerate(value)})
        else:
            flat[name] = value
    return flat


def run_graph(session: Any, inputs: Inputs) -> list[Tensor]:
    """Run a graph; inputs that it has no use for are left out."""
    wanted = {one.name for one in session.get_inputs()}
    feeds = {name: value.numpy() for name, value in flatten(inputs).items() if name in wanted}
    return [torch.from_numpy(np.asarray(value)) for value in session.run(None, feeds)]


@torch.no_grad()
def compare_graph(graph: Graph, path: Path, inputs: Mapping[str, Inputs]) -> list[Comparison]:
    """Run a graph and its module on the same inputs.

    Args:
        graph: The module.
        path: Its file.
        inputs: What they are -> inputs, of any of the free sizes.
    """
    session = open_graph(path)
    found = []
    for what, values in inputs.items():
        theirs = run_graph(session, values)
        ours = graph.module(*values.values())
        for name, own, other in zip(graph.outputs, ours, theirs, strict=True):
            found.append(compare(f'{path.name} {name}, {what}', own, other))
    return found


@torch.no_grad()
def time_ratio(graph: Graph, path: Path, inputs: Inputs) -> float:
    """Time of onnxruntime as a share of PyTorch's in eager mode, both on one core."""
    session = open_graph(path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        theirs, ours = _times(
            lambda: run_graph(session, inputs), lambda: graph.module(*inputs.values())
        )
    finally:
        torch.set_num_threads(threads)
    return theirs / ours


def _times(*calls: Callable[[], Any]) -> list[float]:
    """Least time of each of some calls, taken in turns: other work on the core only adds."""
    for call in calls:
        call()
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(NUM_TIMED):
        for call, own in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            own.append(time.perf_counter() - start)
    return [min(own) for own in seconds]
