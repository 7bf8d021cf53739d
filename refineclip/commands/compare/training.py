"""Train one method with one seed, and keep its encoder."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from refineclip.distill import cost
from refineclip.encoders.weights.checkpoint_file import read_content
from refineclip.encoders.weights.whole_files import write_whole
from refineclip.evaluation.streams.result_store import digest

from ..evaluate.common import quiet_logging
from ..running import place, running
from .job import Job
from .recipes import num_steps, plain_data, recipe
from .suite import Method

# What a model that does not fit raises while it is built or takes its first step.
MISFITS = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OSError)


def train(job: Job, name: str, seed: int) -> dict[str, Any]:
    """Train a method; its encoder is what stays.

    Args:
        job: The comparison.
        name: Of the method.
        seed: Its seed.

    Returns:
        ``config``, ``digest``, ``seconds``, ``steps`` and ``passes`` of the run.

    Raises:
        ValueError: If the run leaves no encoder where the method says it is.
    """
    started = time.perf_counter()
    method = job.suite.methods[name]
    folder = job.run_folder(method, seed)
    cfg = place(recipe(job, method, seed), folder)
    config = plain_data(job, cfg)
    with running(cfg, folder) as runner:
        runner.train()
        steps = runner.iter
    _keep_encoder(job, method, seed)
    batch = cfg.train_dataloader.batch_size
    return dict(
        config=config,
        digest=digest(config),
        seconds=round(time.perf_counter() - started, 1),
        steps=steps,
        passes=steps * batch * method.passes if method.budget else 0,
    )


def _keep_encoder(job: Job, method: Method, seed: int) -> None:
    """Keep the part that is measured, and drop the checkpoint, which is two or three times that."""
    folder = job.run_folder(method, seed)
    checkpoint = folder / (folder / 'last_checkpoint').read_text().strip().rsplit('/', 1)[-1]
    state, owner = read_content(checkpoint)['state_dict'], f'{method.part}.'
    kept = {key[len(owner) :]: value for key, value in state.items() if key.startswith(owner)}
    if not kept:
        raise ValueError(
            f'{method.name}: expected the encoder as {owner}* in {checkpoint}, got keys like '
            f'{list(state)[:3]}; name its part in the entry of the method'
        )
    content = dict(state_dict=kept, meta=dict(method=method.name, seed=seed))
    write_whole(job.encoder_file(method, seed), lambda path: torch.save(content, path))
    for file in folder.glob('*.pth'):
        if file != job.encoder_file(method, seed):
            file.unlink()


def build_encoder(job: Job, method: Method, cfg: Config) -> Any:
    """Build the encoder that a method's config trains, with the weights it starts from.

    Args:
        job: The comparison.
        method: What is laid over the config, and where the encoder is in it.
        cfg: A resolved config.

    Returns:
        In eval mode, without gradients.
    """
    quiet_logging()
    part = cfg.model[method.part].to_dict() | {'frozen': True} | dict(method.encoder)
    encoder = MODELS.build(part)
    return encoder.requires_grad_(False).eval()


def check(job: Job, method: Method, seed: int) -> None:
    """Take one step's forward pass on noise, before anything long begins.

    Args:
        job: The comparison.
        method: A method that trains.
        seed: Any of the seeds.

    Raises:
        ValueError: With one sentence, if the method does not fit the suite.
        FileNotFoundError: If its config is not there.
    """
    quiet_logging()
    cfg = recipe(job, method, seed)
    num_steps(job, method, cfg)
    generator = torch.Generator().manual_seed(0)
    shape = (3, 64, 96)
    image = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0.0, 0.6, 0.6], [0.3, 0.3, 1.0, 1.0]])
    data = dict(inputs=[image] * 2, boxes=[boxes] * 2, img_paths=['noise 0', 'noise 1'])
    data |= dict(img_ids=[0, 1], epochs=[0, 0], bad_images=[])
    logging.disable(logging.WARNING)  # that weights are missing, which is meant
    try:
        settings = cost.without_weights(_on_noise(cfg.model.to_dict()))
        with TemporaryDirectory() as folder:
            if cfg.model.get('text_head'):  # which is fitted later
                settings['text_head'] = job.source.blank_head(settings, Path(folder))
            model = MODELS.build(settings).train()
        model(**model.data_preprocessor(data, training=True), mode='loss')
    except MISFITS as error:
        raise ValueError(
            f'{method.name}: expected a method that fits the images and encoders of '
            f'{job.suite.file.name}, got {type(error).__name__}: {error}'
        ) from error
    finally:
        logging.disable(logging.NOTSET)


def _on_noise(model: dict[str, Any]) -> dict[str, Any]:
    """Leave out what random weights and noise cannot pass, and what would be kept of them."""
    left_out = ('cache_dir', 'min_initial_cosine')
    return {key: None if key in left_out else value for key, value in model.items()}
