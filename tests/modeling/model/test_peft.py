"""LoRA adapters of PEFT on the three families: wrap, train, merge, reload."""

import peft
import pytest
import torch
from tiny import (
    ENCODERS,
    LM_HEADS,
    SEQUENCE_HEADS,
    first_output,
    is_seq2seq,
    name_of,
    tiny_inputs,
    tiny_labels,
    tiny_model,
)
from transformers import AutoModelForCausalLM

TARGETS = {"named": ["q_proj", "v_proj"], "all linear": "all-linear"}
TASKS = {"Seq2SeqForConditionalGeneration": "SEQ_2_SEQ_LM", "DecoderForCausalLM": "CAUSAL_LM"}
HEAD_TASKS = {
    "EncoderForSequenceClassification": "SEQ_CLS",
    "DecoderForSequenceClassification": "SEQ_CLS",
    "EncoderForTokenClassification": "TOKEN_CLS",
    "EncoderForQuestionAnswering": "QUESTION_ANS",
}
every_lm_head = pytest.mark.parametrize("model_class", LM_HEADS, ids=name_of)


def adapted(model, targets, task_type=None):
    """The model with a trained adapter, and its inputs and labels."""
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, target_modules=targets, task_type=task_type, lora_alpha=16)
    model_class = type(model)
    wrapped = peft.get_peft_model(model, config)
    inputs = tiny_inputs(model_class, batch_size=4)
    labels = tiny_labels(model_class, inputs)
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=2e-2)
    losses = []
    for _ in range(5):
        loss = wrapped.train()(**inputs, **labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    return wrapped.eval(), inputs


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@every_lm_head
def test_train_merge_and_reload(model_class, targets, tmp_path):
    model = tiny_model(model_class)
    inputs = tiny_inputs(model_class, batch_size=4)
    untrained = first_output(model, inputs)
    wrapped, inputs = adapted(model, targets, TASKS.get(name_of(model_class)))
    trained = first_output(wrapped, inputs)
    assert (trained - untrained).abs().max() > 0.1
    wrapped.save_pretrained(tmp_path / "adapter")

    reloaded = peft.PeftModel.from_pretrained(tiny_model(model_class), tmp_path / "adapter").eval()
    torch.testing.assert_close(first_output(reloaded, inputs), trained, rtol=0, atol=1e-5)

    merged = wrapped.merge_and_unload()
    assert type(merged) is model_class
    torch.testing.assert_close(first_output(merged, inputs), trained, rtol=0, atol=1e-5)
    assert merged.lm_head.weight is merged.get_input_embeddings().weight
    if is_seq2seq(model_class):
        assert merged.model.decoder.embed_tokens.weight is merged.lm_head.weight

    merged.save_pretrained(tmp_path / "merged")
    loaded, info = model_class.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(info.values())
    torch.testing.assert_close(first_output(loaded, inputs), trained, rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_class", [*SEQUENCE_HEADS, ENCODERS[3], ENCODERS[4]], ids=name_of)
def test_a_heads_own_layer_is_trained_and_saved_with_the_adapter(model_class, tmp_path):
    model = tiny_model(model_class)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    wrapped, inputs = adapted(model, ["q_proj", "v_proj"], HEAD_TASKS[name_of(model_class)])
    trained = first_output(wrapped, inputs)
    wrapped.save_pretrained(tmp_path)
    reloaded = peft.PeftModel.from_pretrained(tiny_model(model_class), tmp_path).eval()
    torch.testing.assert_close(first_output(reloaded, inputs), trained, rtol=0, atol=1e-5)
    merged = wrapped.merge_and_unload()
    changed = {name for name, value in merged.named_parameters() if not torch.equal(value, before[name])}
    assert any(name.startswith(("classifier", "score", "qa_outputs")) for name in changed)
    assert not any("k_proj" in name or "embed" in name for name in changed)


def test_auto_class_loads_a_folder_that_holds_only_an_adapter(tmp_path):
    model_class = LM_HEADS[2]
    base = tiny_model(model_class)
    base.save_pretrained(tmp_path / "base")
    wrapped, inputs = adapted(model_class.from_pretrained(tmp_path / "base"), "all-linear", "CAUSAL_LM")
    wrapped.save_pretrained(tmp_path / "adapter")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    torch.testing.assert_close(first_output(loaded, inputs), first_output(wrapped, inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_class", [LM_HEADS[0], LM_HEADS[2]], ids=name_of)
def test_generation_with_an_adapter(model_class):
    wrapped, inputs = adapted(tiny_model(model_class), ["q_proj", "v_proj"], TASKS[name_of(model_class)])
    inputs.pop("decoder_input_ids", None)
    inputs = {name: value[:1] for name, value in inputs.items()}
    tokens = wrapped.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert torch.equal(wrapped.merge_and_unload().generate(**inputs, max_new_tokens=6, do_sample=False), tokens)
