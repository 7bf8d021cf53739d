"""All steps of a comparison, in an order that respects what each needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refineclip.evaluation.streams.result_store import digest

from ..steps import Step
from .job import Job
from .measuring import measure
from .recipes import needs_refiner, plain_data, read_recipe, recipe
from .suite import Method
from .training import train


def plan(job: Job, methods: Sequence[Method], seeds: Sequence[int]) -> list[Step]:
    """List the steps.

    Args:
        job: The comparison.
        methods: Rows; what they need is trained as well.
        seeds: Of every training.
    """
    prepared = job.source.steps()
    before, seconds = tuple(step.name for step in prepared), job.suite['seconds']
    trained, measured = [], []
    for seed in seeds:
        for method in trained_methods(job, methods):
            needs = before
            if needs_refiner(job, read_recipe(method.config)):
                needs = (*needs, train_name(job.suite.methods[job.suite['refiner']], seed))
            step = Step(
                train_name(method, seed),
                train,
                (job, method.name, seed),
                needs,
                seconds['train'] * (job.length if method.budget else 1),
            )
            trained.append(step)
        for method in methods:
            if seed == seeds[0] or per_seed(method):
                of = job.suite.methods[method.blend['of']] if method.blend else method
                needs = (*before, train_name(of, seed)) if of.trains else before
                arguments = (job, method.name, seed)
                name = measure_name(method, seed)
                measured.append(Step(name, measure, arguments, needs, seconds['measure']))
    return prepared + _interleaved(trained, measured)


def _interleaved(trained: Sequence[Step], measured: Sequence[Step]) -> list[Step]:
    """Measure each row as soon as it can be, so that a stopped run leaves what it has."""
    waiting, done, steps = list(measured), set[str](), list[Step]()

    def take_ready() -> None:
        for step in list(waiting):
            if all(need in done or not need.startswith('train ') for need in step.needs):
                steps.append(step)
                waiting.remove(step)

    take_ready()
    for step in trained:
        steps.append(step)
        done.add(step.name)
        take_ready()
    assert not waiting, 'a row that needs what nobody trains'
    return steps


def trained_methods(job: Job, methods: Sequence[Method]) -> list[Method]:
    """What is trained for some rows: their own runs, those that they blend, and the Refiner."""
    wanted = {one.blend['of'] if one.blend else one.name for one in methods}
    found = [one for one in job.suite.methods.values() if one.name in wanted and one.trains]
    refiner = job.suite.settings.get('refiner')
    if refiner and any(needs_refiner(job, read_recipe(one.config)) for one in found):
        trainer = job.suite.methods[refiner]
        found = [trainer, *(one for one in found if one is not trainer)]
    return found


def per_seed(method: Method) -> bool:
    """Whether seeds change a row."""
    return method.trains or bool(method.blend)


def train_name(method: Method, seed: int) -> str:
    """Name of the step that trains a method."""
    return f'train {method.folder}, seed {seed}'


def measure_name(method: Method, seed: int) -> str:
    """Name of the step that measures a row."""
    return f'measure {method.folder}' + (f', seed {seed}' if per_seed(method) else '')


def refuse_changed(
    job: Job, methods: Sequence[Method], seeds: Sequence[int], done: Mapping[str, Any]
) -> None:
    """Refuse to go on where a finished run was of another config.

    Raises:
        ValueError: Naming the run.
    """
    from ..running import place

    for method in trained_methods(job, methods):
        for seed in seeds:
            run = done.get(train_name(method, seed))
            if run is None:
                continue
            folder = job.run_folder(method, seed)
            now = plain_data(job, place(recipe(job, method, seed), folder))
            if digest(now) != run['digest']:
                raise ValueError(
                    f'--resume: expected the config that {method.name}, seed {seed} was trained '
                    f'with, got another one; remove {folder} and the files of {method.folder} in '
                    f'{job.out / "steps"}, or name another --out'
                )
