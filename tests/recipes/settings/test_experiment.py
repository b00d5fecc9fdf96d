"""Reading an experiment: names, types, rules, and what is said when they are broken."""

import pytest

from vanilla_recipes.errors import UserError
from vanilla_recipes.settings.config_files import differences, load_experiment, write_experiment
from vanilla_recipes.settings.durations import Duration
from vanilla_recipes.settings.experiment import Experiment


@pytest.fixture
def load(tmp_path):
    """Reads an experiment from YAML text and overrides."""

    def load_text(text: str, *overrides: str) -> Experiment:
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        return load_experiment(Experiment, str(tmp_path / "mine.yaml"), overrides)

    return load_text


def test_reads_values_of_every_kind(load):
    experiment = load(
        "seed: 7\n"
        "max_duration: 10 minutes\n"
        "optimizer: {learning_rate: 3e-4, betas: [0.9, 0.95], max_grad_norm: null}\n"
        "schedule:\n  name: cosine\n  warmup: 1k steps\n"
        "checkpoint:\n",
        "batch.tokens=2048",
        "resume=if_available",
        "evaluation.every=null",
        "model.pretrained=12",
    )
    assert experiment.seed == 7
    assert experiment.max_duration == Duration(600, "seconds")
    assert experiment.optimizer.learning_rate == 3e-4
    assert experiment.optimizer.betas == (0.9, 0.95)
    assert experiment.optimizer.max_grad_norm is None
    assert experiment.schedule.warmup == Duration(1000, "steps")
    assert (experiment.batch.tokens, experiment.resume, experiment.evaluation.every) == (2048, "if_available", None)
    assert experiment.pretrained == "12"


def test_override_wins_over_the_file(load):
    assert load("seed: 7", "seed=8").seed == 8


def test_default_folder_bears_the_name_of_the_config(load):
    assert load("seed: 7").output_dir == "runs/-mine"
    assert load("seed: 7", "output_dir=x/y").output_dir == "x/y"


def test_what_is_written_reads_back_equal(load, tmp_path):
    experiment = load("optimizer: {eps: 1e-9}\nschedule: {name: linear, warmup: null}", "max_duration=1.5 hours")
    write_experiment(experiment, tmp_path / "config.yaml")
    assert load_experiment(Experiment, str(tmp_path / "config.yaml")) == experiment


def test_what_is_written_says_how_to_go_on(load, tmp_path):
    """From elsewhere, `resume=always` finds no run where `resume=if_available` would begin one."""
    write_experiment(load("seed: 7", "output_dir=runs/x"), tmp_path / "config.yaml")
    first = (tmp_path / "config.yaml").read_text().splitlines()[0]
    assert first.startswith("# In the folder that this run was started from, ")
    assert first.endswith(": vanilla train runs/x/config.yaml resume=always")


def test_a_file_of_another_recipe_is_told_alone(load):
    with pytest.raises(UserError) as caught:
        load("recipe: cooking\nsalt: 1\nmodel: {pepper: 2}")
    assert str(caught.value).endswith("recipe='cooking' (mine.yaml:1): must be : the file belongs to another recipe")


def test_all_faults_come_together(load):
    with pytest.raises(UserError) as caught:
        load(
            "seed: x\noptimizr: {eps: 1}\noptimizer: {learning_rat: 1, betas: [1]}\n"
            "max_duration: 10\nseed: 3\noptimizer:\n",
            "batch.tokens=0",
            "precision=bf17",
            "learning_rate=3",
            "verbose",
            "schedule.min_factor=2",
        )
    title, *faults = str(caught.value).splitlines()
    assert title.endswith("mine.yaml: 12 settings are wrong:")
    assert faults == [
        "  optimizr (mine.yaml:2): there is no such key; did you mean optimizer?",
        "  optimizer.learning_rat (mine.yaml:3): there is no such key; did you mean optimizer.learning_rate?",
        "  seed (mine.yaml:5): is given twice",
        "  optimizer (mine.yaml:6): is given twice",
        "  learning_rate (command line): there is no such key; did you mean optimizer.learning_rate?",
        "  verbose (command line): must read key=value",
        "  seed='x' (mine.yaml:1): must be a whole number",
        "  optimizer.betas=[1] (mine.yaml:3): must be a list of 2 values, each a finite number",
        "  max_duration (mine.yaml:4): 10 is not a duration: write a positive number and a unit, such as `60 steps`, "
        "`10k steps`, `5 epochs`, `2B tokens`, `10 minutes`",
        "  precision=bf17 (command line): must be one of fp32, bf16, fp16",
        "  schedule.min_factor=2.0 (command line): must be between 0 and 1",
        "  batch.tokens=0 (command line): must be 1 or greater",
    ]


@pytest.mark.parametrize(
    ("text", "override", "message"),
    [
        ("seed: true", "", r"seed=True \(mine.yaml:1\): must be a whole number"),
        ("seed: null", "", r"seed=null \(mine.yaml:1\): must be a whole number"),
        ("seed: 1.5", "", "must be a whole number"),
        ("seed: -1", "", "seed=-1 .*: must be between 0 and 4294967295"),
        ("optimizer: 3", "", r"optimizer \(mine.yaml:1\): must hold `key: value` lines"),
        ("- a", "", "the file .*: must hold `key: value` lines"),
        ("a: [1", "", r"mine.yaml:1: this is not valid YAML: expected ',' or '\]'"),
        ("seed: 1\n\tx: 2", "", r"mine.yaml:2: this is not valid YAML"),
        ("", "zzz.q=1", "zzz.q .*: there is no such key; there are recipe, output_dir, seed"),
        ("", "optimizer.zzz=1", r"there is no such key; there are optimizer\.learning_rate, optimizer\.betas"),
        ("", "optimizer.learning_rate=fast", "optimizer.learning_rate=fast .*: must be a finite number or null"),
        ("", "optimizer.learning_rate=.nan", r"optimizer\.learning_rate=.nan .*: must be a finite number or null"),
        ("", "optimizer.learning_rate=1e400", r"optimizer\.learning_rate=1e400 .*: must be a finite number or null"),
        ("optimizer: {eps: .inf}", "", r"optimizer\.eps=inf .*: must be a finite number$"),
        ("", "checkpoint.keep=0", "checkpoint.keep=0 .*: must be 1 or greater; `checkpoint.every=null`"),
        ("", "checkpoint.every=often", r"checkpoint.every \(command line\): 'often' is not a duration"),
        ("schedule: {name: cosine}", "optimizer.learning_rate=null", "may be null only with schedule.name="),
        ("", "schedule.warmup=null", "schedule.warmup=null .*: must be a duration for the inverse_sqrt schedule"),
        ("recipe: classification", "", "recipe='classification' .*: the file belongs to another recipe"),
    ],
)  # fmt: skip
def test_each_fault_names_key_value_and_rule(load, text, override, message):
    with pytest.raises(UserError, match=message):
        load(text, *filter(None, [override]))


def test_unknown_name_leads_to_the_nearest_or_to_the_list():
    with pytest.raises(UserError, match=r"translation/toi: there is no .* did you mean translation/toy\?"):
        load_experiment(Experiment, "translation/toi")
    with pytest.raises(UserError, match="`vanilla configs` lists the configurations"):
        load_experiment(Experiment, "qqq")


def test_missing_or_unreadable_file(tmp_path):
    with pytest.raises(UserError, match=r"no.yaml: the configuration cannot be read: No such file"):
        load_experiment(Experiment, str(tmp_path / "no.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"seed: \xe9")
    with pytest.raises(UserError, match="cannot be read: it is not UTF-8"):
        load_experiment(Experiment, str(tmp_path / "latin.yaml"))


def test_differences_are_named_by_key(load):
    first, second = (
        load("seed: 1"),
        load("seed: 2", "checkpoint.every=1 epochs", "batch.tokens=9", "model.pretrained=x"),
    )
    assert differences(first, second, ignored=["checkpoint"]) == {
        "batch.tokens": (4096, 9),
        "model.pretrained": (None, "x"),
        "seed": (1, 2),
    }
