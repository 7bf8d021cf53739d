"""UniRefiner: a border of registers, low-rank updates, and contrast against a frozen teacher."""

from .border_modes import border_plain, border_value
from .contrastive_register_loss import ContrastiveRegisterLoss
from .lora import LoRA
from .unirefiner import UniRefiner

__all__ = ['ContrastiveRegisterLoss', 'LoRA', 'UniRefiner', 'border_plain', 'border_value']
