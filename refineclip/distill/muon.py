"""timm's Muon for the matrices of transformer blocks, AdamW for all else."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS
from timm.optim import Muon
from torch import nn

# PyTorch's own, of 2.9, takes matrices only; timm's has an AdamW for the other parameters.
OPTIMIZERS.register_module(name='Muon', module=Muon, force=True)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MuonOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """The default one, which also tells Muon which parameters are matrices of blocks.

    Embeddings and heads are matrices too, whose rows are looked up or read one by one: they are
    AdamW's (https://kellerjordan.github.io/posts/muon/). Needs a ``paramwise_cfg``, without which
    mmengine makes no group per parameter.
    """

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any) -> None:
        """Add the parameters of a module, one group each."""
        super().add_params(params, module, **kwargs)
        if kwargs.get('prefix'):
            return  # a part of the model; the call that began here sees all groups
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        for group in params:
            [parameter] = group['params']
            in_block = 'blocks.' in names[id(parameter)]
            group['use_fallback'] = parameter.ndim != 2 or not in_block
