"""Computes the answers of models for the demo page: candidates with probabilities, and the time in seconds."""

import copy
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    FillMaskPipeline,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TextClassificationPipeline,
)

from vanilla_recipes.demo.records import Answer, Candidate, Found, Group, Shown, Task
from vanilla_recipes.errors import UserError
from vanilla_recipes.scoring.decoding import answers, beams, checked, model_faults
from vanilla_recipes.scoring.sampling import continue_ids
from vanilla_transformers.inspection.passages import token_labels
from vanilla_transformers.text.pipelines import Text2TextPipeline
from vanilla_transformers.text.sentences import split_sentences

NUM_BEAMS = 4  # number of answers shown, and minimum number of beams
NUM_SAMPLES = 3  # number of sampled continuations of a text
NUM_TOKENS = 8  # number of candidates for a mask or the next token
NUM_CLASSES = 10  # maximum number of classes shown
NEW_TOKENS = 100  # maximum number of new tokens of a continuation
TEMPERATURE = 0.8  # used if the generation config of the model does not sample

_TRANSLATORS = ("vanilla_seq2seq", "marian", "m2m_100", "mbart", "fsmt", "nllb-moe")
_MASKS = re.compile(r"\[MASK\]|<mask>|__+")


def task_of(name: str, model_class: type, config: PreTrainedConfig) -> Task:
    """Returns the task of a model on the page.

    Args:
        name: name of the model, for the message.
        model_class: class of the model.
        config: configuration of the model.

    Raises:
        UserError: If the page does not support such a model.
    """
    task = next((task for mapping, task in TASKS if _is_of(model_class, config, mapping)), None)
    if task is None:
        raise UserError(
            f"{name}: a {model_class.__name__} cannot be shown; an encoder-decoder, a decoder, a masked language model "
            "or a sequence classifier is needed"
        )
    return ANSWER if task is TRANSLATE and config.model_type not in _TRANSLATORS else task


def check_tokenizer(name: str, task: Task, tokenizer: PreTrainedTokenizerBase) -> None:
    """Checks that a tokenizer has the tokens that the task needs.

    Raises:
        UserError: If the task is to fill masks, and the tokenizer has no mask token.
    """
    if task is FILL and tokenizer.mask_token is None:
        raise UserError(f"{name}: the tokenizer has no mask token; name it as mask_token in tokenizer_config.json")


def _is_of(model_class: type, config: PreTrainedConfig, mapping: Any) -> bool:
    classes = mapping.get(type(config), ())
    return model_class in (classes if isinstance(classes, (list, tuple)) else (classes,))


def shown(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Shown:
    """Prepares a model for the page: evaluation mode and, for a decoder, sampling without beams.

    Raises:
        UserError: If the page does not support such a model, or its tokenizer lacks a token that the task needs.
    """
    task = task_of(name, type(model), model.config)
    check_tokenizer(name, task, tokenizer)
    if task is CONTINUE:
        saved = model.generation_config = copy.deepcopy(model.generation_config)
        if not saved.do_sample:
            saved.update(do_sample=True, temperature=TEMPERATURE)
        padding = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        saved.update(num_beams=1, pad_token_id=next(id_ for id_ in padding if id_ is not None))
    return Shown(name, model.eval(), tokenizer, task)


def answer(model: Shown, text: str, languages: Mapping[str, str] | None = None) -> Answer:
    """Computes a model's answer to a text.

    Args:
        model: the model.
        text: the input text.
        languages: `src_lang` and `tgt_lang`, for a multilingual model.

    Raises:
        UserError: If the text is empty, not valid Unicode or too long, or the model fails on it.
    """
    if not text.strip():
        raise UserError(f"the text is empty: write something first, such as {model.task.example!r}")
    checked(1, text)
    start = time.perf_counter()
    found = model.task.answer(model, text, languages or {})
    seconds = time.perf_counter() - start
    read = text if model.task is CONTINUE else found.text
    return Answer(**vars(found), seconds=seconds, notes=tuple(_notes(model, read)))


def _notes(model: Shown, text: str) -> list[str]:
    """Returns notes about truncation, sentence splitting and unknown tokens of the text."""
    ids, limit = model.ids(text), model.limit
    notes = []
    if len(ids) > limit and model.task is CONTINUE:
        notes.append(f"the text has {len(ids)} tokens, the model reads {limit}: it continued the last {limit // 2}")
    elif len(ids) > limit:
        notes.append(f"the text has {len(ids)} tokens, the model reads {limit}: it was read sentence by sentence")
    unknown = ids.count(model.tokenizer.unk_token_id) if model.tokenizer.unk_token != model.tokenizer.eos_token else 0
    if unknown:
        notes.append(f"{unknown} of {len(ids)} tokens are unknown: the vocabulary lacks these parts of the text")
    return notes


def _fitting(model: Shown, text: str, what: str = "the text") -> int:
    """Returns the number of tokens of a text.

    Raises:
        UserError: If the text has no tokens, or more than the model reads.
    """
    count, limit = len(model.ids(text)), model.limit
    if not count:
        raise UserError(f"{what} is {text!r}, which the tokenizer turns into 0 tokens: write something else")
    if count > limit:
        raise UserError(
            f"{what} has {count} tokens, {count - limit} more than the {limit} that the model reads: shorten it"
        )
    return count


# The answer of each task


def translate(model: Shown, text: str, languages: Mapping[str, str]) -> Found:
    """Returns the best answers of a beam search. A text to translate that is too long is split into sentences."""
    is_translation = model.task is TRANSLATE
    sentences = [sentence for sentence, _ in split_sentences(text)] if is_translation else [text]
    for number, sentence in enumerate(sentences, start=1):
        _fitting(model, sentence, "the text" if len(sentences) == 1 else f"sentence {number}")
    num_beams = max(NUM_BEAMS, model.model.generation_config.num_beams or 1)
    pipeline = Text2TextPipeline(
        "translation" if is_translation else "text2text-generation",
        model.model,
        model.tokenizer,
        **{"return_scores": True, "num_return_sequences": NUM_BEAMS, "do_sample": False},
        **beams(num_beams),
        **languages,
    )
    (records,) = answers(pipeline, [text], progress=False)
    found = [
        Candidate(record["translation_text" if is_translation else "generated_text"], math.exp(record["score"]))
        for record in records
    ]
    best = found[0].text
    if languages.get("tgt_lang"):
        model.tokenizer.tgt_lang = languages["tgt_lang"]  # the attention maps also encode the answer
    num_tokens = len(model.tokenizer(text_target=best, verbose=False)["input_ids"])
    heading = f"The best {len(found)} of {num_beams} beams, with the probability per token (geometric mean)"
    return Found([Group(heading, found)], num_tokens, "written", text, best)


def classify(model: Shown, text: str, _: Mapping[str, str]) -> Found:
    """Returns the classes with their probabilities, or the scores of a regression model."""
    count = _fitting(model, text)
    pipeline = TextClassificationPipeline(
        model=model.model, tokenizer=model.tokenizer, device=model.model.device, top_k=None
    )
    with model_faults(model.model, "classify texts", "its files may not belong together"):
        records: Any = pipeline([text])[0]
    is_probability = model.model.config.problem_type != "regression"
    found = [
        Candidate(each["label"], each["score"])
        if is_probability
        else Candidate(f"{each['label']}: {each['score']:.4f}")
        for each in records[:NUM_CLASSES]
    ]
    heading = "Classes, with their probability" if is_probability else "Scores of the model"
    if len(records) > len(found):
        heading = f"The {len(found)} most likely of {len(records):,} classes, with their probability"
    return Found([Group(heading, found)], count, "read", text)


@torch.inference_mode()
def go_on(model: Shown, text: str, _: Mapping[str, str]) -> Found:
    """Returns sampled continuations, and the most likely next tokens."""
    ids, context = model.ids(text), model.limit
    if not ids:
        raise UserError(f"the text is {text!r}, which the tokenizer turns into 0 tokens: write something else")
    # `continue_ids` truncates a long prompt in the same way.
    seen = ids[-context // 2 :] if len(ids) >= context else ids
    with model_faults(model.model, "generate"):
        drawn = [continue_ids(model.model, ids, NEW_TOKENS, context) for _ in range(NUM_SAMPLES)]
        logits = model.model(input_ids=torch.tensor([seen], device=model.model.device)).logits[0, -1]
    before = model.tokenizer.decode(ids, skip_special_tokens=True)
    texts = model.tokenizer.batch_decode([ids + new for new in drawn], skip_special_tokens=True)
    samples = [Candidate(each.removeprefix(before), before=before) for each in texts]
    settings = model.model.generation_config
    groups = [
        Group(f"{NUM_SAMPLES} continuations, drawn at temperature {settings.temperature or 1:g}", samples),
        Group("The next token, with its probability", _likeliest(model, logits)),
    ]
    mapped = model.tokenizer.decode((seen + drawn[0])[:context], skip_special_tokens=True)
    return Found(groups, sum(map(len, drawn)), "written", mapped)


def _likeliest(model: Shown, logits: torch.Tensor) -> list[Candidate]:
    top = logits.float().softmax(-1).topk(min(NUM_TOKENS, logits.shape[-1]))
    labels = token_labels(model.tokenizer, top.indices.tolist())
    return [Candidate(label, probability) for label, probability in zip(labels, top.values.tolist(), strict=True)]


def fill(model: Shown, text: str, _: Mapping[str, str]) -> Found:
    """Returns the most likely tokens for each mask of the text."""
    mask = model.tokenizer.mask_token
    text = _MASKS.sub(lambda _: mask, text)
    count = _fitting(model, text)
    if model.tokenizer.mask_token_id not in model.ids(text):
        raise UserError("the text has no mask: write [MASK] or __ for a word that the model should predict")
    pipeline = FillMaskPipeline(
        model=model.model, tokenizer=model.tokenizer, device=model.model.device, top_k=NUM_TOKENS
    )
    with model_faults(model.model, "fill masks", "its files may not belong together"):
        records: Any = pipeline(text)
    places = records if isinstance(records[0], list) else [records]
    groups = []
    for number, place in enumerate(places, start=1):
        which = "The mask" if len(places) == 1 else f"Mask {number}"
        found = [Candidate(each["token_str"].strip(), each["score"]) for each in place]
        groups.append(Group(f"{which}: the most likely tokens, with their probability", found))
    return Found(groups, count, "read", text)


TRANSLATE = Task(
    "Translate", "Translate", "Text to translate", "A man is riding a bicycle through the city.", translate
)
ANSWER = Task("Answer a text", "Answer", "Text to answer", "Answer: what is the capital of France?", translate)
CLASSIFY = Task("Classify", "Classify", "Text to classify", "A film of rare charm.", classify)
CONTINUE = Task("Continue a text", "Continue", "Text to continue", "Once upon a time", go_on)
FILL = Task(
    "Fill in masked words", "Fill in", "Text with [MASK] or __ in it", "The old man sat [MASK] on a chair.", fill
)
TASKS: Sequence[tuple[Any, Task]] = (
    (MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, TRANSLATE),
    (MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, CLASSIFY),
    (MODEL_FOR_CAUSAL_LM_MAPPING, CONTINUE),
    (MODEL_FOR_MASKED_LM_MAPPING, FILL),
)
