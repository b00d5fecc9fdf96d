"""Prints the results of `make demo` after training: outputs of the saved models, reloaded in a new process.

The inputs are held-out rows of the built-in corpora: their words occur in training rows, but their combinations of
words do not. The rows include pairs with the same words in another order. Only a model that uses word order can tell
the two rows of such a pair apart.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vanilla_recipes.cli.faults import guarded

NUM_SENTENCES = 3
NUM_PAIRS = 2
NUM_REVIEWS = 4
SEED = 1  # any seed is fine: no test row of any seed is a training row
MAIN_SCORES = {"translation": "bleu", "classification": "accuracy", "generation": "perplexity"}


def main(argv: Sequence[str]) -> int:
    """Prints outputs of the models of the demonstration, and a table of their scores; `argv[0]` is its folder."""
    from transformers.utils import logging

    import vanilla_transformers  # noqa: F401 (registers the models)

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    demo = Path(argv[0])
    show_translation(demo / "translation" / "best")
    show_classification(demo / "classification" / "best")
    show_generation(demo / "generation")
    show_table(demo)
    return 0


def show_translation(folder: Path) -> None:
    """Prints held-out sentences and role-swapped pairs with their translations."""
    from vanilla_recipes.cli.models import load_for
    from vanilla_recipes.data.toy import role_swapped_pairs, toy_rows
    from vanilla_recipes.scoring.decoding import translate

    held_out = toy_rows("translation", "test", NUM_SENTENCES, SEED)
    swapped = [row for pair in role_swapped_pairs(NUM_PAIRS, SEED) for row in pair]
    rows = [row["translation"] for row in (*held_out, *swapped)]
    model, tokenizer = load_for("translate", str(folder), device=None)
    answers = translate(model, tokenizer, [row["en"] for row in rows])
    print(f"\nTranslation: {type(model).__name__} reloaded. Held-out sentences, then the same words in other roles:\n")
    for row, answer in zip(rows, answers, strict=True):
        print(f"  {row['en']}\n  {answer}{'' if answer == row['de'] else '   (expected: ' + row['de'] + ')'}\n")


def show_classification(folder: Path) -> None:
    """Prints pairs of reviews of the same words, with their predicted classes."""
    from transformers import pipeline

    from vanilla_recipes.data.toy import toy_rows

    classify = pipeline("text-classification", model=str(folder))
    names: dict = classify.model.config.id2label or {}
    rows = toy_rows("sentiment", "test", NUM_REVIEWS, SEED)
    name = type(classify.model).__name__
    print(f"Classification: {name} reloaded. The same words in another order have the other label:\n")
    for row, answer in zip(rows, classify([row["text"] for row in rows]), strict=True):
        expected = names[row["label"]]
        mark = "" if answer["label"] == expected else f"   (expected: {expected})"
        print(f"  {answer['label']:8} {answer['score']:.0%}  {row['text']}{mark}")


def show_generation(run: Path) -> None:
    """Prints a story that the reloaded model continues."""
    from transformers import pipeline, set_seed

    write = pipeline("text-generation", model=str(run / "best"))
    set_seed(SEED)
    (story,) = write("Once upon a time", max_new_tokens=300)
    print(f"\nGeneration: {type(write.model).__name__} reloaded. A story:\n\n  {story['generated_text'].strip()}\n")


def show_table(demo: Path) -> None:
    """Prints the main score of each task on its test rows, and the run folders."""
    print(f"{'task':14} {'score on held-out rows':26} {'trained':>8}  run folder")
    for task, name in MAIN_SCORES.items():
        results = json.loads((demo / task / "results.json").read_text(encoding="utf-8"))
        score = f"{name} {results['test'][name]:.2f} ({results['test']['rows']} rows)"
        print(f"{task:14} {score:26} {results['run']['seconds']:6.0f} s  {demo / task}")
    command = os.path.relpath(Path(sys.executable).with_name("vanilla"))
    print(
        "\nIn each run folder: best/ and final/ (models for from_pretrained), curves.png, metrics.jsonl (the training"
        "\ncurve), results.json and config.yaml. Now try a sentence of your own:\n"
        f'{command} translate {demo / "translation" / "best"} "The dog has bitten the old man."'
    )


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
