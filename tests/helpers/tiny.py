"""Tiny random models of every class, and inputs and labels for them."""

import torch

import vanilla_transformers as vanilla

VOCAB_SIZE = 67
NUM_LABELS = 3
LENGTH = 7
PAD = 1
"""Padding id of every tiny model; the ids below 5 are special."""

SEQ2SEQ = (vanilla.VanillaSeq2SeqModel, vanilla.VanillaSeq2SeqForConditionalGeneration)
ENCODERS = (
    vanilla.VanillaEncoderModel,
    vanilla.VanillaEncoderForMaskedLM,
    vanilla.VanillaEncoderForSequenceClassification,
    vanilla.VanillaEncoderForTokenClassification,
    vanilla.VanillaEncoderForQuestionAnswering,
    vanilla.VanillaEncoderForMultipleChoice,
)
DECODERS = (
    vanilla.VanillaDecoderModel,
    vanilla.VanillaDecoderForCausalLM,
    vanilla.VanillaDecoderForSequenceClassification,
    vanilla.VanillaDecoderForTokenClassification,
)
MODELS = (*SEQ2SEQ, *ENCODERS, *DECODERS)
HEADS = tuple(model_class for model_class in MODELS if not model_class.__name__.endswith("Model"))
LM_HEADS = (SEQ2SEQ[1], ENCODERS[1], DECODERS[1])
"""One class with a projection to the vocabulary for each family."""

SEQUENCE_HEADS = (ENCODERS[2], DECODERS[2])
TOKEN_HEADS = (ENCODERS[3], DECODERS[3])

DEFAULTS = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.15,
    "num_labels": NUM_LABELS,
    "pad_token_id": PAD,
    "bos_token_id": 2,
    "eos_token_id": 3,
}


def name_of(model_class) -> str:
    """Returns the name of a class without `Vanilla`, used as a test id."""
    return model_class.__name__.removeprefix("Vanilla")


def is_seq2seq(model_class) -> bool:
    """Whether the class belongs to the encoder-decoder family."""
    return model_class.config_class is vanilla.VanillaSeq2SeqConfig


def tiny_config(model_class, **knobs):
    """Returns the configuration of a tiny model without dropout. `knobs` replaces settings; others are the defaults."""
    settings = DEFAULTS | knobs
    if is_seq2seq(model_class):
        num_layers = settings.pop("num_hidden_layers")
        settings = {"encoder_layers": num_layers, "decoder_layers": num_layers} | settings
    return model_class.config_class(**settings)


def tiny_model(model_class, seed: int = 0, **knobs):
    """Returns a random model in evaluation mode.

    Biases and norms are random too, so that a test notices if one of them is lost.
    """
    torch.manual_seed(seed)
    model = model_class(tiny_config(model_class, **knobs)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_ids(*shape: int, seed: int = 1) -> torch.Tensor:
    """Returns random ids of ordinary (not special) tokens."""
    return torch.randint(5, VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(seed))


def tiny_inputs(model_class, batch_size: int = 2, length: int = LENGTH) -> dict[str, torch.Tensor]:
    """Returns inputs of the model. Every second row ends in two padding tokens."""
    input_ids = random_ids(batch_size, length)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1::2, -2:] = 0
    input_ids = input_ids.masked_fill(attention_mask == 0, PAD)
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if is_seq2seq(model_class):
        inputs["decoder_input_ids"] = random_ids(batch_size, length - 2, seed=2)
    if "MultipleChoice" in model_class.__name__:
        inputs = {name: torch.stack((tensor, tensor.flip(0)), dim=1) for name, tensor in inputs.items()}
    return inputs


def tiny_labels(model_class, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns labels for `tiny_inputs`. If each token has a label, the number of targets differs from row to row."""
    name = model_class.__name__
    batch_size, length = inputs["input_ids"].shape[0], inputs["input_ids"].shape[-1]
    rows = torch.arange(batch_size)
    if "QuestionAnswering" in name:
        return {"start_positions": rows % 3, "end_positions": rows % 3 + 2}
    if "MultipleChoice" in name:
        return {"labels": rows % 2}
    if "SequenceClassification" in name:
        return {"labels": rows % NUM_LABELS}
    if is_seq2seq(model_class):
        length -= 2
    labels = random_ids(batch_size, length, seed=3)
    if "TokenClassification" in name:
        labels = labels % NUM_LABELS
    return {"labels": labels.masked_fill(torch.arange(length) < (rows % 4)[:, None], -100)}


def first_output(model, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Returns the logits of a model, or the hidden states of a base model."""
    with torch.no_grad():
        return model(**inputs)[0]
