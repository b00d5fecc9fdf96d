"""Damaged, half-written and unsuitable model folders: each is told in one line that names the file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

import vanilla_recipes.cli
from vanilla_recipes.cli.models import checked_device, load_for
from vanilla_recipes.errors import UserError

WEIGHTS = "model.safetensors"
Damage = Callable[[Path], object]


def cut(name: str, length: int) -> Damage:
    """Keep the first bytes of a file; a negative length counts from its end."""

    def damage(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:length])

    return damage


def flip(name: str, position: int) -> Damage:
    """Invert one byte."""

    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[position] ^= 0xFF
        (folder / name).write_bytes(content)

    return damage


def write(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def remove(*names: str) -> Damage:
    return lambda folder: [(folder / name).unlink() for name in names]


def set_in(name: str, **values: object) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | values))

    return damage


def set_in_config(**values: object) -> Damage:
    return set_in("config.json", **values)


def set_in_generation(**values: object) -> Damage:
    return set_in("generation_config.json", **values)


def shard(after: Damage) -> Damage:
    """Save the weights in several files, then damage these."""

    def damage(folder: Path) -> None:
        model = AutoModelForSeq2SeqLM.from_pretrained(folder)
        (folder / WEIGHTS).unlink()
        model.save_pretrained(folder, max_shard_size="8KB")
        after(folder)

    return damage


def last_shard(folder: Path) -> str:
    return max(folder.glob("model-*.safetensors")).name


def set_to_nan(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors[min(tensors)].view(-1)[0] = torch.nan
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def set_in_tokenizer(**values: object) -> Damage:
    return set_in("tokenizer_config.json", **values)


def flip_a_bit_of_a_weight(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["model.encoder.embed_tokens.weight"].view(torch.int32)[7, 3] ^= 1 << 30
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def remove_start_tokens(folder: Path) -> None:
    for name in ("config.json", "generation_config.json"):
        set_in(name, decoder_start_token_id=None, bos_token_id=None)(folder)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        *[(cut(WEIGHTS, length), f"{WEIGHTS}: the weights cannot be read") for length in (0, 4, 8, 100, 9000, -1)],
        *[(flip(WEIGHTS, position), f"{WEIGHTS}: the weights cannot be read") for position in (0, 7, 8, 20)],
        (write(WEIGHTS, bytes(30_000)), f"{WEIGHTS}: the weights cannot be read"),
        (set_to_nan, "holds NaN or infinity"),
        (flip_a_bit_of_a_weight, "model.encoder.embed_tokens.weight holds a weight of "),
        (remove(WEIGHTS), f"the weights are missing ({WEIGHTS})"),
        (shard(lambda folder: (folder / last_shard(folder)).unlink()), "this part of the weights is missing"),
        (shard(lambda folder: cut(last_shard(folder), -9)(folder)), "the weights cannot be read"),
        (shard(cut(f"{WEIGHTS}.index.json", 100)), "index.json: this is not valid JSON"),
        (shard(write(f"{WEIGHTS}.index.json", b"{}")), "index.json: there is no weight_map in it"),
        (shard(set_in(f"{WEIGHTS}.index.json", weight_map={"a": 3})), "index.json: there is no weight_map in"),
        (shard(set_in(f"{WEIGHTS}.index.json", weight_map={})), "index.json: there is no weight_map in"),
        (shard(remove(f"{WEIGHTS}.index.json")), "the weights are missing"),
        (remove("config.json"), "there is no config.json in it"),
        (cut("config.json", 0), "config.json: this is not valid JSON"),
        (cut("config.json", 100), "config.json: this is not valid JSON"),
        (write("config.json", b"\xff\xfe"), "config.json: this is not valid JSON"),
        (write("config.json", b"[1]"), "config.json: it holds a list where a JSON object belongs"),
        (write("config.json", b"{}"), "the model_type in its config.json is None"),
        (set_in_config(model_type=["marian"]), "the model_type in its config.json is ['marian']"),
        (set_in_config(model_type="mine", auto_map={"AutoConfig": "a.B"}), "code that comes with a model is not run"),
        (set_in_config(model_type="bert"), "it is a 'bert' model, which cannot translate"),
        (set_in_config(model_type="vanilla_decoder"), "it is a 'vanilla_decoder' model, which cannot translate"),
        (set_in_config(hidden_size="wide"), "the configuration cannot be loaded: "),
        (set_in_config(num_attention_heads=3), "the configuration cannot be loaded: hidden_size is 16, which num_"),
        (set_in_config(num_hidden_layers=2), "the configuration cannot be loaded: num_hidden_layers is 2 and encoder_"),
        (set_in_config(encoder_layers=2), "tensors that config.json asks for are missing in the weights: "),
        (set_in_config(intermediate_size=64), "tensors that config.json asks for have another shape in the weights: "),
        (cut("generation_config.json", 30), "generation_config.json: this is not valid JSON"),
        (set_in_generation(num_beams=0), "num_beams is 0 in its generation settings, but must be a whole number of at"),
        (set_in_generation(num_beams=-1), "num_beams is -1 in its"),
        (set_in_generation(max_length=0), "max_length is 0 in its"),
        (set_in_generation(max_length="long"), "max_length is 'long' in its"),
        (set_in_generation(max_length=1), "the model cannot translate: Input length of decoder_input_ids is 1, but"),
        (set_in_generation(num_beams=2.5), "num_beams is 2.5 in its generation settings, but must be a whole number"),
        (set_in_generation(max_length="9"), "max_length is '9' in its"),
        (set_in_generation(length_penalty="x"), "length_penalty is 'x' in its generation settings, but must be"),
        (set_in_generation(eos_token_id="x"), "eos_token_id is 'x' in its generation settings, but must be a"),
        (set_in_generation(eos_token_id=9999), "eos_token_id is 9999 in its generation settings, but must be less"),
        (set_in_generation(forced_bos_token_id=9999), "forced_bos_token_id is 9999 in its"),
        (set_in_generation(stop_strings="x"), "the model cannot translate: There are one or more stop strings"),
        (set_in_tokenizer(pad_token=None), "the tokenizer has no padding token, which the shorter sentences"),
        (set_in_tokenizer(model_max_length="x"), "model_max_length is 'x' in tokenizer_config.json, but must"),
        (set_in_tokenizer(model_max_length=-1), "model_max_length is -1 in"),
        (set_in_tokenizer(model_max_length=True), "model_max_length is True in"),
        (set_in_tokenizer(model_input_names="x"), "the tokenizer cannot be loaded: You should supply an encoding"),
        (
            remove_start_tokens,
            "the model cannot translate: `decoder_start_token_id` or `bos_token_id` has to be defined",
        ),
        (remove("tokenizer_config.json"), "the tokenizer (tokenizer_config.json missing) cannot be loaded"),
        (remove("tokenizer.json"), "the tokenizer (tokenizer.json missing) cannot be loaded"),
        (remove("tokenizer.json", "tokenizer_config.json"), "the tokenizer (tokenizer.json and tokenizer_config.json"),
        (cut("tokenizer.json", 1000), "tokenizer.json: this is not valid JSON"),
        (cut("tokenizer_config.json", 40), "tokenizer_config.json: this is not valid JSON"),
        (write("tokenizer.json", b"{}"), "the tokenizer cannot be loaded: "),
    ],
)
def test_a_damaged_folder_is_one_line(damage, text, model_folder, capsys):
    damage(model_folder)
    capsys.readouterr()  # saving in several files shows its progress
    assert vanilla_recipes.cli.main(["translate", str(model_folder), "the dog"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith(f"vanilla: {model_folder}")
    assert text in printed.err
    assert len(printed.err) < 600


def test_weights_in_several_files_load(model_folder):
    whole, _ = load_for("translate", str(model_folder), "cpu")
    shard(lambda folder: None)(model_folder)
    parts, _ = load_for("translate", str(model_folder), "cpu")
    assert not parts.training
    assert all(torch.equal(tensor, parts.state_dict()[name]) for name, tensor in whole.state_dict().items())


@pytest.mark.parametrize("limit", [None, 1e30])
def test_a_tokenizer_without_a_limit(limit, model_folder):
    set_in_tokenizer(model_max_length=limit)(model_folder)
    _, tokenizer = load_for("translate", str(model_folder), "cpu")
    assert tokenizer.model_max_length == int(1e30)


def test_files_that_belong_to_other_programs_are_left_alone(model_folder):
    (model_folder / "modules.json").write_text("[]")
    (model_folder / "notes.json").write_text("not JSON")
    load_for("translate", str(model_folder), "cpu")


def test_a_tokenizer_of_another_model_is_refused(model_folder):
    tokenizer = json.loads((model_folder / "tokenizer.json").read_text())
    largest = max(tokenizer["model"]["vocab"].values())
    tokenizer["model"]["vocab"]["another"] = largest + 7
    (model_folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match=f"the tokenizer gives ids up to {largest + 7}, but the model knows"):
        load_for("translate", str(model_folder), "cpu")


def test_a_run_folder_leads_to_the_models_in_it(model_folder):
    with pytest.raises(UserError, match=f"so it is no model folder; did you mean {model_folder}\\?"):
        load_for("translate", str(model_folder.parent), "cpu")
    with pytest.raises(UserError, match=f"bset: there is no such folder; did you mean {model_folder}\\?"):
        load_for("translate", str(model_folder.parent / "bset"), "cpu")
    with pytest.raises(UserError, match="this is a file; name the model folder"):
        load_for("translate", str(model_folder / "config.json"), "cpu")


@pytest.mark.parametrize("name", ["./nothing", "no/such/folder", "a folder", "runs--x/"])
def test_a_path_is_not_looked_for_on_the_hub(name):
    with pytest.raises(UserError, match="there is no such folder, and it cannot be the name of a model on the Hub"):
        load_for("translate", name, "cpu")


def test_a_hub_that_is_not_asked(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = (
        r"^nobody/nothing: there is no such folder here, and the Hugging Face Hub cannot be reached \(HF_HUB_OFFLINE "
        r"is set\); give the folder of a saved model, or mend the connection$"
    )
    with pytest.raises(UserError, match=message):
        load_for("translate", "nobody/nothing", "cpu")


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch, capfd):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert vanilla_recipes.cli.main(["translate", "nobody/nothing", "the dog"]) == 1
    printed = capfd.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert "the Hugging Face Hub cannot be reached (http://127.0.0.1:9: " in printed.err


@pytest.mark.parametrize("device", ["toaster", "meta", "cpu:1", "cpu:x", "cuda:99"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(UserError, match=f"--device {device}: there is no such device; this machine has: cpu"):
        checked_device(device)
    assert checked_device("cpu") == torch.device("cpu")
