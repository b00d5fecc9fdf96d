"""How transformers divides a model among devices: plans of one stack, and of the language-model heads.

Tensor parallelism (TP): a rank holds some heads and some of the inner width. Pipeline parallelism (PP): the inputs and
outputs of each module. Fully sharded data parallelism (FSDP): whether a gathered weight is freed or kept after use.
"""

from typing import Any

STACK_TP_PLAN = {
    "layers.*.self_attn.q_proj": "colwise",
    "layers.*.self_attn.k_proj": "colwise",
    "layers.*.self_attn.v_proj": "colwise",
    "layers.*.self_attn.o_proj": "rowwise",
    "layers.*.feed_forward.up_proj": "colwise",
    "layers.*.feed_forward.down_proj": "rowwise",
}
CROSS_ATTENTION_TP_PLAN = {
    "layers.*.cross_attn.q_proj": "colwise",
    "layers.*.cross_attn.k_proj": "colwise",
    "layers.*.cross_attn.v_proj": "colwise",
    "layers.*.cross_attn.o_proj": "rowwise",
}
STACK_PP_PLAN: dict[str, Any] = {
    "embed_tokens": (["input_ids"], ["inputs_embeds"]),
    "input_embedding": (["inputs_embeds"], ["hidden_states"]),
    "layers": (["hidden_states", "attention_mask"], ["hidden_states"]),
    "norm": (["hidden_states"], ["hidden_states"]),
}
STACK_FSDP_PLAN = {"embed_tokens": "free_full_weight", "layers.*": "free_full_weight", "norm": "keep_full_weight"}
LM_HEAD_TP_PLAN = {"lm_head": "colwise_gather_output"}
LM_HEAD_PP_PLAN: dict[str, Any] = {"lm_head": (["hidden_states"], ["logits"])}
LM_HEAD_FSDP_PLAN = {"lm_head": "keep_full_weight"}
