"""LoRA on an imported BERT, GPT-2 and Marian: small, merged without loss, ties and classifier kept."""

import peft
import pytest
import torch
from stock_zoo import stock_model

from vanilla_transformers import (
    VanillaDecoderConfig,
    VanillaDecoderForCausalLM,
    VanillaEncoderConfig,
    VanillaEncoderForSequenceClassification,
    VanillaSeq2SeqConfig,
    VanillaSeq2SeqForConditionalGeneration,
    convert,
)

CASES = [("bert", "sequence-classification", "SEQ_CLS"), ("gpt2", "causal-lm", "CAUSAL_LM")]
CASES.append(("marian", "seq2seq-lm", "SEQ_2_SEQ_LM"))


def lora(task_type, **kwargs):
    return peft.LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type=task_type, **kwargs)


@pytest.mark.parametrize(("model_type", "head", "task_type"), CASES)
def test_an_adapter_learns_and_merges(model_type, head, task_type):
    model = convert(stock_model(model_type, head))
    ids = torch.arange(5, 25).view(4, 5)
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})
    labels = torch.tensor([0, 1, 2, 0]) if task_type == "SEQ_CLS" else ids
    wrapped = peft.get_peft_model(model, lora(task_type))
    if task_type == "SEQ_CLS":
        trained = {name for name, weight in wrapped.named_parameters() if weight.requires_grad and "lora" not in name}
        assert {name.rsplit(".", 1)[0].split(".")[-3] for name in trained} == {"classifier"}
    optimizer = torch.optim.AdamW([weight for weight in wrapped.parameters() if weight.requires_grad], lr=1e-2)
    for _ in range(3):
        wrapped.train()(**inputs, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        before = wrapped.eval()(**inputs).logits
        merged = wrapped.merge_and_unload().eval()
        after = merged(**inputs).logits
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    if task_type != "SEQ_CLS":
        assert merged.lm_head.weight is merged.get_input_embeddings().weight
        # What was trained here serves as a stock model again.
        stock = convert(merged, to=model_type)
        torch.testing.assert_close(stock(**inputs).logits, after, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("model_class", "config", "task_type"),
    [
        (VanillaEncoderForSequenceClassification, VanillaEncoderConfig(), "SEQ_CLS"),
        (VanillaDecoderForCausalLM, VanillaDecoderConfig(), "CAUSAL_LM"),
        (VanillaSeq2SeqForConditionalGeneration, VanillaSeq2SeqConfig(vocab_size=58101), "SEQ_2_SEQ_LM"),
    ],
    ids=["bert-base", "gpt2", "opus-mt"],
)
def test_an_adapter_is_under_two_percent_at_full_size(model_class, config, task_type):
    with torch.device("meta"):
        wrapped = peft.get_peft_model(model_class(config), lora(task_type))
    adapter, everything = wrapped.get_nb_trainable_parameters()
    assert 0 < adapter < 0.02 * everything
