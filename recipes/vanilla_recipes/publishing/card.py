"""Writes the model card from the facts known about a model; unknown facts are left out."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel

from vanilla_recipes.data.records import TOY
from vanilla_recipes.errors import UserError, one_line
from vanilla_recipes.packaged import packaged
from vanilla_recipes.publishing.details import LANGUAGE, CardDetails
from vanilla_recipes.publishing.fresh_process import TASKS, auto_names
from vanilla_recipes.publishing.settings import public_settings
from vanilla_recipes.publishing.sources import Source
from vanilla_transformers.interop.checks import Check
from vanilla_transformers.model.configuration_base import VanillaConfig

_DEEDS = {
    "translation": "translates",
    "text-generation": "continues text",
    "fill-mask": "fills in hidden words",
    "text-classification": "classifies texts",
    "token-classification": "labels the tokens of a text",
    "question-answering": "marks the answer to a question in a text",
    "multiple-choice": "chooses between answers",
    "feature-extraction": "gives each token of a text a vector",
}
_FAMILIES = {
    "vanilla_seq2seq": "encoder-decoder Transformer (Vaswani et al. 2017)",
    "vanilla_encoder": "BERT-style encoder (Devlin et al. 2019)",
    "vanilla_decoder": "GPT-style decoder (Radford et al. 2019)",
}
# Scores of the recipes: (identifier on the Hub, name in the card, factor).
_METRICS = {
    "bleu": ("sacrebleu", "BLEU", 1),
    "bleu_lowercase": ("sacrebleu", "BLEU, lower-cased", 1),
    "chrf": ("chrf", "chrF", 1),
    "accuracy": ("accuracy", "Accuracy", 100),
    "f1": ("f1", "F1", 100),
    "matthews": ("matthews_correlation", "Matthews correlation", 1),
    "perplexity": ("perplexity", "Perplexity", 1),
    "bits_per_byte": ("bits_per_byte", "Bits per byte", 1),
    "bits_per_character": ("bits_per_character", "Bits per character", 1),
    "loss": ("loss", "Loss", 1),
}
_SIGNATURES = {"bleu": "signature", "bleu_lowercase": "signature", "chrf": "chrf_signature", "f1": "f1_average"}
_EXAMPLE = "Two dogs are playing in the grass."


@dataclass(frozen=True)
class Facts:
    """The facts from which a model card is written.

    Attributes:
        name: name of the repository, `USER/NAME`.
        model: the model; the card states its configuration and size.
        has_tokenizer: whether a tokenizer is published with the model.
        source: the model folder, and the run that trained the model.
        details: text for the card from the user.
        checks: results of the checks of the model in a fresh process.
        has_curves: whether the repository has a plot of the training, `curves.png`.
        stock_folder: subfolder of the repository with a copy of the model in a transformers class; None without a copy.
    """

    name: str
    model: PreTrainedModel
    has_tokenizer: bool
    source: Source
    details: CardDetails
    checks: Sequence[Check] = field(default_factory=tuple)
    has_curves: bool = False
    stock_folder: str | None = None

    @property
    def task(self) -> str:
        """Name of the model's task on the Hub, such as "translation"."""
        return TASKS[auto_names(self.model)[0]]

    @property
    def is_ours(self) -> bool:
        """Whether the model's class belongs to this package, so that the code is published with the model."""
        return isinstance(self.model.config, VanillaConfig)

    @property
    def datasets(self) -> list[str]:
        """Hub identifiers of the training data; empty if unknown."""
        return datasets_of(self.source, self.details)

    @property
    def languages(self) -> list[str]:
        """Language codes of the model; empty if unknown."""
        data = self.source.experiment.get("data", {})
        named = [str(data[name]) for name in ("source_lang", "target_lang") if data.get(name)]
        # source_lang and target_lang are column names, which need not be language codes.
        return self.details.language or (named if all(re.fullmatch(LANGUAGE, each) for each in named) else [])


def datasets_of(source: Source, details: CardDetails) -> list[str]:
    """Returns the Hub identifiers of the data that a model was trained on; empty if unknown."""
    data = source.experiment.get("data", {})
    is_on_hub = not data.get("path") and data.get("name") not in (None, TOY)
    return details.datasets or ([data["name"]] if is_on_hub else [])


def write_card(facts: Facts) -> str:
    """Returns the text of README.md; `huggingface_hub` has parsed its metadata as a check.

    Raises:
        UserError: If the Hub does not accept a value in the details.
    """
    sections = {
        "model_name": facts.name.rsplit("/", 1)[-1],
        "summary": _summary(facts),
        "use": _use(facts),
        "training": _training(facts),
        "scores": _scores(facts),
        "certificates": _certificates(facts),
        "limits": facts.details.limits or "",
    }
    try:
        template = packaged("model_card.md").read_text(encoding="utf-8")
        card = ModelCard.from_template(_metadata(facts), template_str=template, **sections)
        text = re.sub(r"\n{3,}", "\n\n", str(card)).strip() + "\n"
        ModelCard(text)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"the model card is not valid: {one_line(str(error))}; correct the details of the card"
        ) from error
    return text


def _metadata(facts: Facts) -> ModelCardData:
    details, results = facts.details, _eval_results(facts)
    tags = ["vanilla_transformers", facts.model.config.model_type, *details.tags]
    return ModelCardData(
        language=facts.languages or None,
        license=details.license,
        library_name="transformers",
        pipeline_tag=facts.task,
        base_model=details.base_model,
        datasets=facts.datasets or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        tags=tags,
        model_name=facts.name.rsplit("/", 1)[-1] if results else None,
        eval_results=results or None,
    )


def _eval_results(facts: Facts) -> list[EvalResult]:
    """Returns the scores for the model index; empty if the scored dataset is unknown or there are several datasets."""
    data = facts.source.experiment.get("data", {})
    is_toy = data.get("name") == TOY and not data.get("path")
    # If the user named the datasets, the configuration, split and revision of the run may belong to other data.
    if facts.details.datasets:
        is_toy, data = False, {}
    name = "vanilla_transformers/toy" if is_toy else next(iter(facts.datasets), None)
    if name is None or len(facts.datasets) > 1:
        return []
    results = []
    for rows, scores in _scored(facts):
        for key, value in scores.items():
            if key in _METRICS and isinstance(value, (int, float)):
                metric, title, factor = _METRICS[key]
                signature = scores.get(_SIGNATURES.get(key, ""))
                results.append(
                    EvalResult(
                        task_type=facts.task,
                        dataset_type=name,
                        dataset_name="built-in corpus" if is_toy else name,
                        dataset_config=data.get("config_name"),
                        dataset_split=data.get(f"{rows}_split") or rows,
                        dataset_revision=data.get("revision"),
                        metric_type=metric,
                        metric_name=title,
                        metric_value=round(value * factor, 4),
                        metric_args={"signature": signature} if signature else None,
                    )
                )
    return results


def _scored(facts: Facts) -> list[tuple[str, Mapping[str, Any]]]:
    return [(rows, facts.source.results[rows]) for rows in ("validation", "test") if rows in facts.source.results]


# Sections


def _summary(facts: Facts) -> str:
    config, details = facts.model.config, facts.details
    family = _FAMILIES.get(config.model_type, f"{config.model_type} model")
    article = "An" if family[0] in "aeiou" else "A"
    size = f"{sum(each.numel() for each in facts.model.parameters()) / 1e6:,.1f} million parameters"
    if facts.is_ours:
        depth = f"{config.num_hidden_layers} layers"
        if config.is_encoder_decoder:
            depth = f"{config.encoder_layers} + {config.decoder_layers} layers"
        size = f"{depth}, width {config.hidden_size}, {config.num_attention_heads} heads, {size}"
    deed = _DEEDS[facts.task]
    if facts.task == "translation":
        languages = facts.languages
        deed += f" from {languages[0]} to {languages[1]}" if len(languages) == 2 else " or otherwise rewrites texts"
    text = f"{article} {family} that {deed}: {size}."
    labels = list((config.id2label or {}).values()) if facts.task.endswith("classification") else []
    if labels and not any(str(label).startswith("LABEL_") for label in labels):
        text += f" Its labels are {', '.join(map(str, labels))}."
    started = f" It started from [{details.base_model}](https://huggingface.co/{details.base_model})." * bool(
        details.base_model
    )
    made = (
        "\n\nMade with `vanilla_transformers`, the original Transformer and its BERT- and GPT-style descendants as "
        "Hugging Face models."
    )
    return f"{details.summary}\n\n" * bool(details.summary) + text + started + made


def _use(facts: Facts) -> str:
    own, _ = auto_names(facts.model)
    example = facts.details.example or _EXAMPLE
    blocks = []
    if facts.is_ours:
        loading = _loading_code(facts, own, "", example)
        blocks.append(
            f"With the package `vanilla_transformers`:\n\n```python\nimport vanilla_transformers\n{loading}\n```"
        )
        remote = _loading_code(facts, own, ", trust_remote_code=True", example)
        blocks.append(
            "Without it, the code that comes with the model does the same. It is run on your machine, so look at it, "
            f"and name the `revision=` that you have looked at:\n\n```python\n{remote}\n```"
        )
        command = {"translation": "translate", "text-generation": "generate", "text-classification": "classify"}
        if facts.task in command and facts.has_tokenizer:
            line = f"vanilla {command[facts.task]} {facts.name} {shlex.quote(example)}"
            blocks.append(f"From the command line:\n\n```sh\n{line}\n```")
    else:
        blocks.append(f"```python\n{_loading_code(facts, own, '', example)}\n```")
    if facts.stock_folder:
        code = _loading_code(facts, own, f', subfolder="{facts.stock_folder}"', example)
        blocks.append(
            f"As a {facts.stock_folder} model of transformers, with neither package nor code:\n\n```python\n{code}\n```"
        )
    return "\n\n".join(blocks)


def _loading_code(facts: Facts, own: str, options: str, example: str) -> str:
    """Returns example code that loads and uses the model."""
    imports = f"from transformers import {', '.join(sorted([own, 'AutoTokenizer'] if facts.has_tokenizer else [own]))}"
    lines = [imports, "", f'model = {own}.from_pretrained("{facts.name}"{options})']
    if not facts.has_tokenizer:
        return "\n".join(lines)
    lines += [f'tokenizer = AutoTokenizer.from_pretrained("{facts.name}"{options})']
    text = json.dumps(example, ensure_ascii=False)
    if facts.task == "fill-mask":
        text = f"{json.dumps(example + ' ', ensure_ascii=False)} + tokenizer.mask_token"
    lines.append(f'inputs = tokenizer({text}, return_tensors="pt")')
    uses = {
        "translation": "print(tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True))",
        "text-generation": "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20)[0]))",
        "text-classification": "print(model.config.id2label[model(**inputs).logits[0].argmax().item()])",
        "fill-mask": "place = inputs.input_ids[0].tolist().index(tokenizer.mask_token_id)\n"
        "print(tokenizer.decode(model(**inputs).logits[0, place].argmax()))",
    }
    return "\n".join([*lines, uses.get(facts.task, "print(model(**inputs)[0].shape)")])


def _training(facts: Facts) -> str:
    source, details = facts.source, facts.details
    run = source.results.get("run", {})
    lines = []
    if facts.datasets:
        names = ", ".join(f"[{name}](https://huggingface.co/datasets/{name})" for name in facts.datasets)
        lines.append(f"- Data: {details.data or names}")
    elif details.data:
        lines.append(f"- Data: {details.data}")
    elif source.experiment.get("data", {}).get("name") == TOY and not source.experiment["data"].get("path"):
        lines.append("- Data: the built-in corpus of `vanilla_transformers`, made by a grammar")
    if details.terms:
        lines.append(f"- Terms of the data: {details.terms}")
    started = source.experiment.get("model", {}).get("pretrained")
    if started:
        rank = source.experiment.get("peft", {}).get("r")
        how = f"; LoRA adapters of rank {rank} were trained and merged into its weights" * bool(rank)
        lines.append(f"- Started from: the saved model {public_settings({'name': started})['name']}{how}")
    if run:
        machine = run["machine"]
        lines.append(
            f"- Amount: {run['steps']:,} steps, {run['epochs']:,.1f} epochs, {run['tokens']:,} tokens, without "
            f"padding, which was {run['padding']:.1%} of the batches"
        )
        lines.append(
            f"- Hardware and time: {machine['processes']} x {machine['device']}, {run['seconds'] / 60:,.1f} minutes, "
            f"{run['tokens_per_second']:,.0f} tokens a second"
        )
        versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
        lines.append(f"- Versions: {versions}")
    if details.energy:
        lines.append(f"- Energy: {details.energy}")
    text = "\n".join(lines)
    if source.experiment:
        settings = yaml.safe_dump(public_settings(source.experiment), sort_keys=False, allow_unicode=True).strip()
        text += f"\n\n<details><summary>All settings</summary>\n\n```yaml\n{settings}\n```\n\n</details>"
    if facts.has_curves:
        text += "\n\n![Loss, learning rate, speed and scores over the steps of the training](curves.png)"
    return text.strip()


def _scores(facts: Facts) -> str:
    """Returns a table of all scores, with signatures and settings that are needed to compare them."""
    scored = _scored(facts)
    if not scored:
        return ""
    names = [name for name in _METRICS if any(name in scores for _, scores in scored)]
    lines = ["| rows | number | " + " | ".join(_METRICS[name][1] for name in names) + " |"]
    lines.append("| --- " * (len(names) + 2) + "|")
    for rows, scores in scored:
        values = [f"{scores[name] * _METRICS[name][2]:.4g}" if name in scores else "" for name in names]
        lines.append(f"| {rows} | {scores['rows']:,} | " + " | ".join(values) + " |")
    notes = []
    for name in names:
        signature = next((scores[_SIGNATURES[name]] for _, scores in scored if _SIGNATURES.get(name) in scores), None)
        if signature and name != "bleu_lowercase":
            notes.append(f"- {_METRICS[name][1]}: `{signature}`")
    for name in ("generation", "context", "masking"):
        settings = facts.source.results.get(name)
        if settings:
            listed = ", ".join(f"{key} {value}" for key, value in settings.items())
            where = " of the test rows" if name == "generation" and "test" in facts.source.results else ""
            notes.append(f"- {name.capitalize()}{where}: {listed}")
    beams = facts.source.experiment.get("evaluation", {}).get("num_beams")
    if beams is not None:
        notes.append(f"- Generation of the validation rows: num_beams {beams}")
    return "\n".join(lines) + ("\n\n" + "\n".join(notes) if notes else "")


def _certificates(facts: Facts) -> str:
    lines = []
    if facts.checks:
        differences = [check for check in facts.checks if ": output" in check.name]
        own = facts.checks[0].result
        lines.append(
            f"- Loaded in a fresh process without `vanilla_transformers`, before it was pushed, by {own}: "
            f"{differences[0].result} between its outputs and the outputs of the original model."
        )
    found = facts.source.results.get("certificates", {})
    if "gradient" in found:
        gradient = found["gradient"]
        parts = " and ".join(map(str, gradient["parts"]))
        lines.append(
            f"- Gradient: the gradient of one training batch ({gradient['rows']} rows), computed in {parts} "
            f"micro-batches, differs from its gradient in one piece by {gradient['relative_difference']:.1e} of the "
            "norm (fp32)."
        )
    if "resume" in found:
        times = found["resume"]["times"]
        how = "not interrupted" if not times else f"continued from a checkpoint {times} time{'s' * (times > 1)}"
        lines.append(
            f"- Resume: the run was {how}; its rows have the fingerprint `{found['resume']['fingerprint'][:16]}`. A "
            "checkpoint is used only if its files have the SHA-256 in its manifest. Order, masks and dropout are "
            "functions of the seed and the step."
        )
    return "\n".join(lines)
