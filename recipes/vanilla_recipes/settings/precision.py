"""The dtypes of the setting `precision`."""

import torch

HALF_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The dtypes of autocast; fp32 has none."""
