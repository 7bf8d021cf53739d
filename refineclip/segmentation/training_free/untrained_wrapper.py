"""What stands for DistributedDataParallel around a model that nothing trains."""

from __future__ import annotations

from typing import Any

from mmengine.registry import MODEL_WRAPPERS
from torch import nn


@MODEL_WRAPPERS.register_module()
class UntrainedModelWrapper(nn.Module):
    """Test a model on several processes without DistributedDataParallel.

    DistributedDataParallel refuses a model without trainable parameters, and there are no
    gradients to share. Data are split by the sampler, results are gathered by the metric.

    Args:
        module: The model.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module: Any = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model."""
        return self.module(*args, **kwargs)

    def val_step(self, data: Any) -> Any:
        """Call the model's ``val_step``."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> Any:
        """Call the model's ``test_step``."""
        return self.module.test_step(data)
