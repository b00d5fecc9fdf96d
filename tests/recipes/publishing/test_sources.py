"""Which folders can be published, and what is known of them."""

import json

import pytest

from vanilla_recipes.errors import UserError
from vanilla_recipes.publishing.settings import public_settings
from vanilla_recipes.publishing.sources import find_source


@pytest.fixture
def run(tmp_path, saved_models):
    """The folder of a run that is over."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("best", "final"):
        (folder / name).symlink_to(saved_models["DecoderForCausalLM"])
    (folder / "config.yaml").write_text("recipe: generation\nseed: 3\n")
    results = {"model": "best", "validation": {"loss": 1.0}, "test": {"loss": 1.5}, "run": {"steps": 9}}
    (folder / "results.json").write_text(json.dumps(results))
    records = [{"step": 4, "validation_loss": 1.0}, {"step": 9, "validation_loss": 2.0}, {"step": 9, "loss": 3.0}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_a_run_is_known_by_its_files(run):
    source = find_source(run)
    assert (source.model, source.run, source.experiment) == (run / "best", run, {"recipe": "generation", "seed": 3})
    assert source.results["test"] == {"loss": 1.5}


def test_the_final_model_has_the_scores_of_the_last_evaluation(run):
    source = find_source(run, "final")
    assert source.model == run / "final"
    assert source.results == {"run": {"steps": 9}, "validation": {"step": 9, "loss": 2.0}}


def test_a_model_folder_is_taken_as_it_is(saved_models):
    source = find_source(saved_models["EncoderForMaskedLM"])
    assert (source.run, source.experiment, source.results) == (None, {}, {})


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda run: (run / "results.json").unlink(),
            "the run is not finished (results.json is missing); finish",
        ),
        (lambda run: (run / "best").unlink(), "the run is not finished (best/ is missing)"),
        (lambda run: (run / "config.yaml").unlink(), "it holds neither a run (config.yaml) nor a model (config.json)"),
        (lambda run: (run / "results.json").write_text("{"), "results.json: cannot be read: Expecting"),
        (lambda run: (run / "results.json").write_text("[]"), "results.json: must hold settings by name"),
        (lambda run: run.rename(run.with_name("other")), "there is no such folder"),
    ],
)
def test_what_is_no_finished_run_is_refused(run, spoil, told):
    spoil(run)
    with pytest.raises(UserError) as error:
        find_source(run)
    assert told in str(error.value)


def test_settings_lose_what_belongs_to_a_machine():
    settings = {
        "output_dir": "/tmp/run",
        "tracking": {"project": "secret"},
        "data": {"path": "/data/eve/en-de", "files": ["~/a.txt", "b.txt"], "name": "user/corpus"},
        "model": {"pretrained": r"C:\models\best", "hidden_size": 8},
        "tokenizer": {"name": "../clients/acme/tokenizer", "other": "$HOME/x", "url": "https://u:p@host/corpus"},
    }
    assert public_settings(settings) == {
        "data": {"path": "en-de", "files": ["a.txt", "b.txt"], "name": "user/corpus"},
        "model": {"pretrained": "best", "hidden_size": 8},
        "tokenizer": {"name": "tokenizer", "other": "x", "url": "corpus"},
    }
