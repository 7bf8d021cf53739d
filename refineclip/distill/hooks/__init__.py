"""Hooks: exact and complete checkpoints, the refined backbone, SCD in other people's models."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .preemption_hook import PreemptionHook
from .resume_check_hook import ResumeCheckHook
from .scd_hook import SCDHook
from .weight_ensemble_hook import WeightEnsembleHook

__all__ = [
    'AtomicCheckpointHook',
    'PreemptionHook',
    'ResumeCheckHook',
    'SCDHook',
    'WeightEnsembleHook',
]
