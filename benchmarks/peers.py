"""`python -m benchmarks.peers multi30k|sst2|shakespeare DATA`: the score of a careful user of transformers.

The data and tokenizers are those of our recipes, and the models are as large as ours. `Seq2SeqTrainer` trains Marian,
`Trainer` trains BERT, and a bare torch loop trains GPT-2. The given time is for training alone. A short run before, the
probe, measures how many steps fit into the time, so that the learning-rate schedule ends when the time is over.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    GPT2Config,
    GPT2LMHeadModel,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from vanilla_recipes.data.collators import encode_pairs
from vanilla_recipes.data.pairs import TranslationDataConfig, translation_pairs
from vanilla_recipes.data.tokenizers import train_encoder_tokenizer, train_translation_tokenizer
from vanilla_recipes.scoring.bleu import Bleu
from vanilla_recipes.scoring.classification import Accuracy
from vanilla_recipes.scoring.decoding import translate

PROBE_STEPS = 200  # the first steps are slower: after a probe of 60 steps, a peer ended a tenth before its time


class TokenCount(TrainerCallback):
    """Counts real tokens and all tokens in the training batches that the model gets, and measures the training time."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.real = self.padded = 0
        self.seconds = 0.0
        self.pad_token_id = model.config.pad_token_id
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: torch.nn.Module, arguments: tuple, inputs: dict[str, Any]) -> None:
        if model.training:
            self.real += int(inputs["attention_mask"].sum())
            self.padded += inputs["attention_mask"].numel()
            targets = inputs.get("decoder_input_ids")  # as many as labels, which label smoothing removes
            if targets is not None:
                self.real += int((targets != self.pad_token_id).sum())
                self.padded += targets.numel()

    def on_train_begin(self, *arguments: Any, **settings: Any) -> None:
        self.started = time.perf_counter()

    def on_train_end(self, *arguments: Any, **settings: Any) -> None:
        self.seconds = time.perf_counter() - self.started

    def figures(self) -> dict[str, float]:
        return {
            "seconds": round(self.seconds, 1),
            "real_tokens_per_second": round(self.real / self.seconds),
            "padding_share": round(1 - self.real / self.padded, 4),
        }


def settings(folder: str, max_steps: int, batch_size: int, learning_rate: float, warmup: int) -> dict[str, Any]:
    """Returns the settings of both trainers: bf16, fused AdamW, batches of similar lengths, a cosine schedule to 0."""
    return {
        "output_dir": folder,
        "max_steps": max_steps,
        "per_device_train_batch_size": batch_size,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": min(warmup, max_steps // 4),
        "bf16": True,
        "use_cpu": not torch.accelerator.is_available(),
        "optim": "adamw_torch_fused",
        "train_sampling_strategy": "group_by_length",
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 500,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
    }


def fit(build: Any, trainer_of: Any, seconds: float) -> tuple[PreTrainedModel, dict[str, float]]:
    """Trains a model for `seconds`; returns it with the figures of the run.

    The model is trained twice. The first run is the probe: its speed determines the number of steps of the second run.
    """
    steps = PROBE_STEPS
    for _ in range(2):
        torch.manual_seed(1)
        model = build()
        count = TokenCount(model)
        with tempfile.TemporaryDirectory() as folder:
            trainer = trainer_of(model, folder, steps)
            trainer.add_callback(count)
            trainer.train()
        figures = {"steps": steps, **count.figures()}
        steps = int(seconds / count.seconds * steps)
    return model.eval(), figures


def multi30k(data: Path, seconds: float, attention: str, batch_size: int) -> dict[str, Any]:
    """Trains Marian (7.6 million parameters, label smoothing 0.1); returns figures and scores as in our recipe."""
    config = TranslationDataConfig(path=str(data))
    train, test = translation_pairs(config, "train"), translation_pairs(config, "test")
    tokenizer = train_translation_tokenizer([text for pair in train for text in pair], 8000, 128)

    def build() -> PreTrainedModel:
        return MarianMTModel(
            MarianConfig(
                vocab_size=len(tokenizer), d_model=256, encoder_layers=3, decoder_layers=3, encoder_ffn_dim=1024,
                decoder_ffn_dim=1024, encoder_attention_heads=8, decoder_attention_heads=8, activation_function="relu",
                scale_embedding=True, dropout=0.1, pad_token_id=tokenizer.pad_token_id, max_length=128,
                eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=tokenizer.bos_token_id,
                forced_eos_token_id=tokenizer.eos_token_id, attn_implementation=attention,
            )
        )  # fmt: skip

    rows = Dataset.from_list([dict(row) for row in encode_pairs(train, tokenizer, 128, 128)])
    rows = rows.map(lambda row: {"length": len(row["input_ids"]) + len(row["labels"])})

    def trainer_of(model: PreTrainedModel, folder: str, steps: int) -> Trainer:
        arguments = settings(folder, steps, batch_size, 1e-3, 400) | {"label_smoothing_factor": 0.1}
        collator = DataCollatorForSeq2Seq(tokenizer, model)
        return Seq2SeqTrainer(model, Seq2SeqTrainingArguments(**arguments), collator, rows)

    model, figures = fit(build, trainer_of, seconds)
    model.generation_config.update(
        num_beams=4, early_stopping=True, bad_words_ids=[[tokenizer.pad_token_id]], max_length=128
    )
    texts = translate(model, tokenizer, [pair.source for pair in test], 4)
    return figures | Bleu().compute(predictions=texts, references=[pair.target for pair in test])


def sst2(data: Path, seconds: float, attention: str, batch_size: int) -> dict[str, Any]:
    """Trains BERT with 4 layers and width 256 on the complete training set; returns figures and accuracy."""
    train, validation = (
        [json.loads(line) for line in (data / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
        for split in ("train", "validation")
    )
    tokenizer = train_encoder_tokenizer(
        [row["sentence"] for row in train], 8000, 128, lowercase=True, strip_accents=True
    )

    def build() -> PreTrainedModel:
        return BertForSequenceClassification(
            BertConfig(
                vocab_size=len(tokenizer), hidden_size=256, num_hidden_layers=4, num_attention_heads=4,
                intermediate_size=1024, max_position_embeddings=128, attn_implementation=attention,
            )
        )  # fmt: skip

    def encoded(rows: list[dict[str, Any]]) -> Dataset:
        ids = tokenizer([row["sentence"] for row in rows], truncation=True, return_token_type_ids=False)["input_ids"]
        return Dataset.from_list(
            [
                {
                    "input_ids": row_ids,
                    "attention_mask": [1] * len(row_ids),
                    "label": row["label"],
                    "length": len(row_ids),
                }
                for row_ids, row in zip(ids, rows, strict=True)
            ]
        )

    train_rows, validation_rows = encoded(train), encoded(validation)

    def trainer_of(model: PreTrainedModel, folder: str, steps: int) -> Trainer:
        arguments = TrainingArguments(**settings(folder, steps, batch_size, 2e-4, 400))
        return Trainer(model, arguments, DataCollatorWithPadding(tokenizer), train_rows)

    model, figures = fit(build, trainer_of, seconds)
    return figures | accuracy(model, tokenizer, validation_rows)


@torch.inference_mode()
def accuracy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> dict[str, float]:
    """Returns the accuracy on the rows, computed by the metric of our recipe."""
    metric = Accuracy()
    for start in range(0, len(rows), 64):
        batch = rows[start : start + 64]
        inputs = tokenizer.pad({name: batch[name] for name in ("input_ids", "attention_mask")}, return_tensors="pt")
        metric.add_batch(predictions=model(**inputs).logits.argmax(-1), references=batch["label"])
    return metric.compute()


def shakespeare(data: Path, seconds: float | None, attention: str) -> dict[str, Any]:
    """Trains GPT-2 in a bare loop on random crops of the text; returns figures and the validation loss.

    Args:
        data: the text file.
        seconds: training time, with bf16 and a learning rate of 3e-3. None takes nanoGPT's settings for a CPU: 2,000
            steps with fp32 and a learning rate of 1e-3.
        attention: attention kernel.
    """
    text = data.read_text(encoding="utf-8")
    characters = sorted(set(text))
    ids = torch.tensor(np.array([characters.index(character) for character in text]))
    train, validation = ids[: int(0.9 * len(ids))], ids[int(0.9 * len(ids)) :]
    model, batch_size, block, steps = _gpt2(len(characters), attention), 12, 64, 2000
    if seconds is not None:
        probe = _crops(train, model, batch_size, block, 200, 3e-3, torch.bfloat16)
        steps, model = int(seconds / probe * 200), _gpt2(len(characters), attention)
    rate, dtype = (1e-3, None) if seconds is None else (3e-3, torch.bfloat16)
    spent = _crops(train, model, batch_size, block, steps, rate, dtype)
    return {
        "steps": steps,
        "seconds": round(spent, 1),
        "tokens_per_second": round(steps * batch_size * block / spent),
        "loss": _loss(model.eval(), validation, block),
    }


def _gpt2(vocab_size: int, attention: str) -> PreTrainedModel:
    torch.manual_seed(1)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocab_size, n_positions=64, n_embd=128, n_layer=4, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, attn_implementation=attention,
        )
    )  # fmt: skip


def _crops(
    ids: torch.Tensor, model: PreTrainedModel, batch_size: int, block: int, steps: int, rate: float, dtype: Any
) -> float:
    """Trains a model on random crops of the text; returns the seconds.

    AdamW, warm-up over 100 steps, then a cosine schedule to a tenth of the learning rate, gradient clipping at 1.
    """
    decayed = [p for p in model.parameters() if p.ndim > 1]
    kept = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": kept, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), fused=True)
    generator = torch.Generator().manual_seed(1)
    model.train()
    start = time.perf_counter()
    for step in range(steps):
        places = torch.randint(len(ids) - block, (batch_size, 1), generator=generator) + torch.arange(block + 1)
        crops = ids[places]
        share = min(1.0, max(0.0, (step - 100) / max(1, steps - 100)))
        factor = min(1.0, (step + 1) / 100) * (0.1 + 0.9 * (0.5 + 0.5 * np.cos(np.pi * share)))
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            logits = model(input_ids=crops[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), crops[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - start


@torch.inference_mode()
def _loss(model: PreTrainedModel, ids: torch.Tensor, block: int) -> float:
    """Returns the cross entropy per character over the complete split, computed in blocks."""
    total = 0.0
    for crops in _blocks(ids, block):
        logits = model(input_ids=crops[:, :-1]).logits.float()
        total += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), crops[:, 1:].flatten(), reduction="sum"))
    return total / (len(ids) - 1)


def _blocks(ids: torch.Tensor, block: int) -> Iterator[torch.Tensor]:
    whole = (len(ids) - 1) // block
    crops = ids[: whole * block + 1].unfold(0, block + 1, block)
    yield from crops.split(256)
    if whole * block + 1 < len(ids):
        yield ids[whole * block :][None]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", choices=["multi30k", "sst2", "shakespeare"])
    parser.add_argument("data", type=Path, help="folder of the data set; for shakespeare the file input.txt")
    parser.add_argument(
        "--seconds",
        type=float,
        help="training time (default: 600 for multi30k, 240 for sst2, 2,000 steps for shakespeare)",
    )
    parser.add_argument(
        "--attention", default="sdpa", help="attention kernel (%(default)s); eager is faster on short rows"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="rows of a batch of multi30k and sst2 (%(default)s)")
    arguments = parser.parse_args()
    if arguments.work == "shakespeare":
        figures = shakespeare(arguments.data, arguments.seconds, arguments.attention)
    else:
        work, seconds = {"multi30k": (multi30k, 600.0), "sst2": (sst2, 240.0)}[arguments.work]
        figures = work(arguments.data, arguments.seconds or seconds, arguments.attention, arguments.batch_size)
    print(json.dumps({"work": arguments.work, "attention": arguments.attention, **figures}, indent=2))


if __name__ == "__main__":
    main()
