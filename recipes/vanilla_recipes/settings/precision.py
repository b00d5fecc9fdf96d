"""The dtypes of the setting `precision`."""

import torch

HALF_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The dtype of autocast for a value of `precision`. fp32 is left out, because it needs no autocast."""
