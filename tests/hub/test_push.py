"""`vanilla push` against a Hub on this machine, with the real client."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml
from hub_client import TOKENS, make_client
from huggingface_hub import ModelCard
from local_hub import LocalHub

COMMAND = "import sys, vanilla_recipes.cli; sys.exit(vanilla_recipes.cli.main(sys.argv[1:]))"
TRAIN = [
    "train",
    "translation/toy",
    "max_duration=2 steps",
    "evaluation.max_rows=4",
    "precision=fp32",
    "data.num_train_rows=100",
    "data.num_validation_rows=10",
    "data.num_test_rows=10",
    "tokenizer.vocab_size=500",
    "batch.tokens=300",
    "model.hidden_size=16",
    "model.num_attention_heads=2",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
]
LOAD = """
import sys
sys.modules["vanilla_transformers"] = None
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
options = {"trust_remote_code": True} if sys.argv[2] == "remote" else {"subfolder": sys.argv[2]}
model = AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1], **options)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], **options)
print(type(model).__name__, model.generate(**tokenizer("A dog runs.", return_tensors="pt"), max_new_tokens=5).tolist())
"""
NAME = "owner/translator"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    command = [sys.executable, "-c", COMMAND, *TRAIN, f"output_dir={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pushed(run, tmp_path_factory):
    """The run on a Hub, with a card of details and a stock copy."""
    place = tmp_path_factory.mktemp("pushed")
    details = place / "card.yaml"
    details.write_text(
        "license: mit\nlimits: It knows few words.\nexample: The cat sleeps.\ntags: [toy]\ndatasets: [them/corpus]\n"
    )
    corpus = place / "corpus"
    corpus.mkdir()
    (corpus / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n\n# Corpus\n")
    with LocalHub(place / "hub", TOKENS) as hub:
        hub.add("them/corpus", corpus, "dataset")
        client = make_client(hub, place)
        words = ["push", run, NAME, "--license", "apache-2.0", "--card", details, "--with", "marian"]
        done = client(COMMAND, *words)
        assert done.returncode == 0, done.stderr
        yield SimpleNamespace(hub=hub, client=client, printed=done.stdout, files=hub.files(NAME), place=place)


def test_the_command_says_what_it_proved_and_where_it_is(pushed):
    assert f"pushed {pushed.hub.endpoint}/{NAME}/commit/" in pushed.printed
    assert "ok     model: loaded by" in pushed.printed
    assert pushed.printed.count("maximum difference 0.0e+00") >= 4
    assert "FAILED" not in pushed.printed


def test_everything_that_belongs_to_the_model_is_there_and_nothing_private(pushed, run):
    files = pushed.files
    model = {"config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "modeling_seq2seq.py"}
    training = {"training/config.yaml", "training/metrics.jsonl", "training/results.json"}
    assert model | training | {"README.md", "curves.png", "marian/model.safetensors"} <= files.keys()
    settings = yaml.safe_load(files["training/config.yaml"])
    assert settings["model"]["hidden_size"] == 16
    assert "output_dir" not in settings
    texts = b"".join(content for name, content in files.items() if not name.endswith((".safetensors", ".png")))
    assert str(run.parent).encode() not in texts
    assert not any(token.encode() in texts for token in TOKENS)


def test_it_loads_by_its_name_with_its_code_and_as_a_stock_model(pushed, tmp_path):
    empty = {"token": None, "HF_HOME": str(tmp_path / "empty")}
    remote, stock = (pushed.client(LOAD, NAME, how, **empty) for how in ("remote", "marian"))
    assert remote.returncode == stock.returncode == 0, remote.stderr + stock.stderr
    (ours, tokens), (theirs, same) = (each.stdout.split(maxsplit=1) for each in (remote, stock))
    assert (ours, theirs) == ("VanillaSeq2SeqForConditionalGeneration", "MarianMTModel")
    assert tokens == same


def test_the_card_says_what_is_known(pushed, run):
    text = pushed.files["README.md"].decode()
    data = ModelCard(text).data
    assert (data.license, data.language, data.pipeline_tag) == ("apache-2.0", ["en", "de"], "translation")
    assert {"vanilla_transformers", "vanilla_seq2seq", "toy"} <= set(data.tags)
    results = json.loads((run / "results.json").read_text())
    scores = {(each.dataset_split, each.metric_name): each.metric_value for each in data.eval_results}
    assert scores["test", "BLEU"] == pytest.approx(results["test"]["bleu"], abs=1e-4)
    assert scores["validation", "Loss"] == pytest.approx(results["validation"]["loss"], abs=1e-4)
    assert results["test"]["signature"] in text
    assert "Terms of the data: them/corpus: cc-by-4.0" in text
    for part in (
        "It knows few words.",
        "2 steps",
        "(curves.png)",
        "micro-batches",
        "## What was checked",
        "num_beams 4",
    ):
        assert part in text
    assert "Energy" not in text


def test_the_code_of_the_card_runs(pushed, tmp_path):
    blocks = re.findall(r"```(python|sh)\n(.*?)```", pushed.files["README.md"].decode(), flags=re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "python", "sh", "python"]
    (_, own), (_, remote), (_, command), (_, stock) = blocks
    with_package = f"{own}\nimport vanilla_recipes.cli, shlex\nvanilla_recipes.cli.main(shlex.split({command!r})[1:])"
    without = f"import sys; sys.modules['vanilla_transformers'] = None\n{remote}\n{stock}"
    for number, script in enumerate((with_package, without)):
        done = pushed.client(script, token=None, HF_HOME=str(tmp_path / str(number)))
        assert done.returncode == 0, done.stderr[-2000:]
        assert len(done.stdout.splitlines()) == 2


REFUSALS = [
    ({"HF_TOKEN": ""}, NAME, "pushing needs an access token that may write: make one at http"),
    ({"HF_TOKEN": "hf_reader_token"}, NAME, "the access token of owner may only read"),
    ({"HF_TOKEN": "hf_wrong_token"}, NAME, "the Hub does not know the token"),
    ({"HF_TOKEN": "hf_other_token"}, NAME, "the access token belongs to other, who may not write there"),
    ({}, "no/such/name", "no/such/name: cannot be the name of a repository"),
    ({}, "own er/x", "own er/x: cannot be the name of a repository"),
    ({}, "translator", "the user is missing"),
]
REFUSED = """
import json, os, sys, vanilla_recipes.cli
for environment, name in json.loads(sys.argv[2]):
    os.environ.update({"HF_TOKEN": "hf_owner_token"} | environment)
    assert vanilla_recipes.cli.main(["push", sys.argv[1], name]) == 1
"""


def test_what_cannot_be_pushed_is_told_in_a_line(hub: LocalHub, client, run):
    done = client(REFUSED, run, json.dumps([(environment, name) for environment, name, _ in REFUSALS]))
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(REFUSALS), done.stderr
    for line, (_, _, told) in zip(lines, REFUSALS, strict=True):
        assert told in line
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "the Hub cannot be reached (HF_HUB_OFFLINE is set)"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "the Hub cannot be reached (http://127.0.0.1:9: "),
    ],
)
def test_a_hub_that_is_not_there_is_told_in_a_line(client, run, environment, told):
    done = client(COMMAND, "push", run, NAME, **environment)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert told in done.stderr
