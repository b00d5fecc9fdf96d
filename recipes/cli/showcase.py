"""What `make demo` shows after the training: the saved model, reloaded in a process of its own, translates.

The sentences are held-out ones of the built-in corpus: their words occur in the training rows, their combinations do
not. Then pairs with the same words in other roles, which only a model that knows word order can tell apart.
"""

import sys
from collections.abc import Sequence

from vanilla_cli.faults import guarded

NUM_SENTENCES = 4
NUM_PAIRS = 2
SEED = 1  # any: all test rows are held out


def main(argv: Sequence[str]) -> int:
    """Print the translations of the model whose folder `argv` names, each below its source."""
    from vanilla_cli.translator import load_translator
    from vanilla_transformers.recipes.data.toy import role_swapped_pairs, toy_rows
    from vanilla_transformers.recipes.scoring.decoding import translate

    (folder,) = argv
    held_out = toy_rows("translation", "test", NUM_SENTENCES, SEED)
    swapped = [row for pair in role_swapped_pairs(NUM_PAIRS, SEED) for row in pair]
    rows = [row["translation"] for row in (*held_out, *swapped)]
    model, tokenizer = load_translator(folder, device=None)
    answers = translate(model, tokenizer, [row["en"] for row in rows])

    print(f"\n{type(model).__name__} reloaded from {folder}. Held-out sentences:\n")
    for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        if number == len(held_out):
            print("The same words in other roles:\n")
        print(f"  {row['en']}\n  {answer}{'' if answer == row['de'] else '   (expected: ' + row['de'] + ')'}\n")
    print(f'Now one of yours: vanilla translate {folder} "{rows[-1]["en"]}"')
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
