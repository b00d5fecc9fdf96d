"""Takes private names of torch and transformers away, one in a process, and trains, searches and saves without each.

Run by `test_private_names.py` as `python without_names.py FOLDER WORK NAME ...`; the work is "models" or "recipe".
Torch and transformers are imported once; each process is a fork. A name is taken from this package's view alone: torch
itself uses many of them.
"""

import json
import os
import sys
import traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path

import torch
from transformers.integrations import sdpa_attention  # noqa: F401
from transformers.utils import generic, output_capturing  # noqa: F401

OURS = ("vanilla_transformers", "vanilla_recipes")
GONE = object()


def take_away(taken: str) -> None:
    """From now on, modules of this package find nothing under a name."""

    def lacking_getattr(owner, name, *default):
        if name != taken:
            return getattr(owner, name, *default)
        if default:
            return default[0]
        raise AttributeError(f"{owner!r} has no attribute {name!r}")

    def lacking_hasattr(owner, name):
        return lacking_getattr(owner, name, GONE) is not GONE

    execute = SourceFileLoader.exec_module

    def exec_module(self, module):
        if module.__name__.split(".")[0] in OURS:
            module.getattr, module.hasattr = lacking_getattr, lacking_hasattr
        execute(self, module)

    SourceFileLoader.exec_module = exec_module


def losses(model_class, folder: Path) -> list[float]:
    """Of two steps of training, the second after saving and loading."""
    from tiny import tiny_inputs, tiny_labels, tiny_model

    model = tiny_model(model_class).train()
    inputs = tiny_inputs(model_class)
    batch = inputs | tiny_labels(model_class, inputs)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first = model(**batch, return_logits=False).loss
    first.backward()
    optimizer.step()
    model.save_pretrained(folder)
    return [float(first.detach()), float(type(model).from_pretrained(folder)(**batch).loss.detach())]


def tokens(model_class) -> list[list[list[int]]]:
    """What greedy, beam and sampled search find."""
    from tiny import random_ids, tiny_model

    model = tiny_model(model_class, initializer_range=1.0, norm_position="pre", tie_word_embeddings=False)
    found = []
    for settings in ({}, {"num_beams": 3}, {"do_sample": True}):
        torch.manual_seed(7)
        settings = settings | {"max_new_tokens": 14, "bad_words_ids": [[1]]}
        found.append(model.generate(random_ids(5, 6), **settings).tolist())
    return found


def models(folder: Path) -> dict:
    """Training, saving and searching with the three families."""
    from tiny import LM_HEADS, name_of

    report = {f"losses {name_of(each)}": losses(each, folder / name_of(each)) for each in LM_HEADS}
    return report | {f"tokens {name_of(each)}": tokens(each) for each in (LM_HEADS[0], LM_HEADS[2])}


def recipe(folder: Path) -> dict:
    """A short run with averaged weights, and attention maps of what it has saved."""
    from tiny_settings import TINY
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    import vanilla_recipes.cli
    from vanilla_transformers import attention_maps

    sizes = ["model.hidden_size=32", "model.intermediate_size=32", "model.encoder_layers=1", "model.decoder_layers=1"]
    others = ["averaging.ema_decay=0.9", f"output_dir={folder / 'run'}"]
    status = vanilla_recipes.cli.main(["train", "translation/toy", *TINY, *sizes, *others])
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "run" / "final")
    tokenizer = AutoTokenizer.from_pretrained(folder / "run" / "final")
    maps = attention_maps(model, tokenizer, "The dog sleeps.", "Der Hund schläft.")
    weights = sum(float(parameter.detach().double().abs().sum()) for parameter in model.parameters())
    return {"status": status, "weights": weights, "loss": maps.loss}


WORK = {"models": models, "recipe": recipe}


def report_without(work: str, name: str, folder: Path) -> dict:
    """What the work comes to without a name, or how it fails."""
    folder.mkdir()
    torch.set_num_threads(1)
    take_away(name)
    try:
        return WORK[work](folder)
    except BaseException:
        return {"fault": traceback.format_exc()}


def main() -> None:
    folder, work, *names = sys.argv[1:]
    reports = [Path(folder) / f"{name}.json" for name in names]
    for name, report in zip(names, reports, strict=True):
        child = os.fork()
        if child == 0:
            report.write_text(json.dumps(report_without(work, name, Path(folder) / name)))
            os._exit(0)
        os.waitpid(child, 0)
    found = {name: json.loads(report.read_text()) for name, report in zip(names, reports, strict=True)}
    (Path(folder) / "report.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
