"""The generation recipe learns: answers to prompts from a few rows, and the built-in stories to a stated score."""

import itertools
import json
import random
from pathlib import Path

from transformers import pipeline

from vanilla_recipes.generation import main


def train(folder: Path, **settings) -> Path:
    arguments = [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
    assert main(["generation/toy", *arguments, f"output_dir={folder}"]) == 0
    return folder


def test_learns_to_reverse(tmp_path):
    """Answers to prompts that are not among the training rows, each ended by itself."""
    generator = random.Random(0)
    words = ["".join(letters) for letters in itertools.product("abcdefghij", repeat=3)]
    generator.shuffle(words)
    rows = [json.dumps({"prompt": f"{word}=", "completion": word[::-1]}) for word in words]
    (tmp_path / "train.jsonl").write_text("\n".join(rows[:-60]))
    (tmp_path / "validation.jsonl").write_text("\n".join(rows[-60:]))
    folder = train(
        tmp_path / "run",
        data__path=tmp_path,
        data__prompt_field="prompt",
        data__completion_field="completion",
        data__layout="documents",
        data__block_size=16,
        data__test_split="null",
        tokenizer__kind="characters",
        model__hidden_size=64,
        model__intermediate_size=128,
        max_duration="250 steps",
        batch__tokens=600,
        precision="fp32",
        model__position_embedding_type="learned",
        generation__prompts="[]",
        generation__temperature=0,
    )
    answer = pipeline("text-generation", model=str(folder / "best"))
    answers = answer([f"{word}=" for word in words[-60:]], return_full_text=False)
    right = [found["generated_text"] == word[::-1] for (found,), word in zip(answers, words[-60:], strict=True)]
    assert sum(right) >= 54


def test_toy_reaches_its_stated_score(tmp_path):
    test = json.loads((train(tmp_path / "run") / "results.json").read_text())["test"]
    assert test["perplexity"] < 1.6
