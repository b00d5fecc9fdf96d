"""The masked-language-modelling recipe learns: words from their neighbours, and the built-in stories."""

import json
import random
from pathlib import Path

from vanilla_recipes.masked_lm import main

ROUND = ["red", "green", "blue", "black", "white", "brown", "grey", "pink", "gold", "lime"]


def _write_rounds(folder: Path) -> None:
    """Rows that go around the same ten words, forwards or backwards, from anywhere: two words give away the rest."""
    generator = random.Random(0)
    for split, num_rows in (("train", 600), ("validation", 50), ("test", 50)):
        lines = []
        for _ in range(num_rows):
            start, step = generator.randrange(10), generator.choice([1, -1])
            words = [ROUND[(start + step * place) % 10] for place in range(generator.randint(8, 14))]
            lines.append(json.dumps({"text": " ".join(words)}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines))


def scores(folder: Path) -> dict[str, float]:
    return json.loads((folder / "results.json").read_text())["test"]


def test_learns_words_from_their_neighbours(tmp_path):
    _write_rounds(tmp_path)
    settings = {
        "data.path": tmp_path,
        "data.test_split": "test",
        "output_dir": tmp_path / "run",
        "max_duration": "400 steps",
        "precision": "fp32",
        "schedule.warmup": "20 steps",
        "optimizer.learning_rate": 3e-3,
        "batch.tokens": 300,
        "tokenizer.vocab_size": 120,
        "model.num_hidden_layers": 1,
        "model.intermediate_size": 128,
        "model.initializer_range": 0.1,
    }
    assert main(["masked_lm/toy", *(f"{key}={value}" for key, value in settings.items())]) == 0
    assert scores(tmp_path / "run")["accuracy"] > 0.95


def test_toy_reaches_its_scores(tmp_path):
    folder = tmp_path / "run"
    assert main(["masked_lm/toy", "data.test_split=test", f"output_dir={folder}"]) == 0
    assert scores(folder)["accuracy"] >= 0.5
    assert scores(folder)["perplexity"] <= 6
