"""Hides one private name of torch or transformers in each process, and trains, searches and saves without the name.

Run by `test_private_names.py` as `python without_names.py FOLDER WORK NAME ...`; the work is "models", "recipe" or
"folders". Torch and transformers are imported once, and the processes are forked. A name is hidden from our code only,
because torch and transformers use many of these names themselves.
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
LOADED = (*OURS, "transformers_modules")
"""Packages with our code; transformers puts the code of a saved folder under the last name."""
GONE = object()


def take_away(taken: str) -> None:
    """Hides a name: modules of this package that are imported from now on do not find it by getattr and hasattr."""

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
        if module.__name__.split(".")[0] in LOADED:
            module.getattr, module.hasattr = lacking_getattr, lacking_hasattr
        execute(self, module)

    SourceFileLoader.exec_module = exec_module


def losses(model_class, folder: Path) -> list[float]:
    """Returns the losses of two training steps, the second after saving and loading."""
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
    """Returns the tokens of greedy search, beam search and sampling."""
    from tiny import random_ids, tiny_model

    model = tiny_model(model_class, initializer_range=1.0, norm_position="pre", tie_word_embeddings=False)
    found = []
    for settings in ({}, {"num_beams": 3}, {"do_sample": True}):
        torch.manual_seed(7)
        settings = settings | {"max_new_tokens": 14, "bad_words_ids": [[1]]}
        found.append(model.generate(random_ids(5, 6), **settings).tolist())
    return found


def models(folder: Path) -> dict:
    """Trains, saves and searches with models of the three families; returns losses and tokens."""
    from tiny import LM_HEADS, name_of

    report = {f"losses {name_of(each)}": losses(each, folder / name_of(each)) for each in LM_HEADS}
    return report | {f"tokens {name_of(each)}": tokens(each) for each in (LM_HEADS[0], LM_HEADS[2])}


def recipe(folder: Path) -> dict:
    """Trains a short run with weight averaging, and computes attention maps of the saved model."""
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


def saved_folders(folder: Path) -> dict:
    """Training, saving and searching with models of the folder `saved` beside this one, without this package."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    for name in OURS:
        sys.modules[name] = None  # type: ignore[assignment]  # any import of it fails from here on
    report: dict[str, list] = {}
    for auto in (AutoModelForSeq2SeqLM, AutoModelForMaskedLM, AutoModelForCausalLM):
        name = auto.__name__.removeprefix("AutoModelFor")
        ids = torch.randint(5, 67, (3, 6), generator=torch.Generator().manual_seed(1))
        model = auto.from_pretrained(folder.parent / "saved" / name, trust_remote_code=True)
        assert type(model).__module__.startswith("transformers_modules."), type(model)
        model.eval()
        report[f"tokens {name}"] = []
        for settings in ({}, {"num_beams": 3}, {"do_sample": True}) if model.can_generate() else ():
            torch.manual_seed(7)
            report[f"tokens {name}"].append(model.generate(ids, max_new_tokens=14, **settings).tolist())
        optimizer = torch.optim.SGD(model.train().parameters(), lr=0.1)
        first = model(input_ids=ids, labels=ids).loss
        first.backward()
        optimizer.step()
        model.save_pretrained(folder / name)
        again = auto.from_pretrained(folder / name, trust_remote_code=True)
        report[f"losses {name}"] = [float(loss.detach()) for loss in (first, again(input_ids=ids, labels=ids).loss)]
    return report


WORK = {"models": models, "recipe": recipe, "folders": saved_folders}


def report_without(work: str, name: str, folder: Path) -> dict:
    """Returns the result of the work without a name, or the traceback if the work fails."""
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
