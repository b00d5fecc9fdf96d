"""`vanilla attention`: what is written and printed, for models of any kind, and bad input."""

import pytest
from stock_models import save_encoder, save_gpt2, save_marian

import vanilla_recipes.cli
from vanilla_recipes.cli.parser import parse

FILES = ["attention.html", "attention.png", "positions.png"]


@pytest.fixture
def attention(model_folder, tmp_path, capsys):
    """Runs the command on the tiny translator, or on another model."""

    def run(*words: str, model=model_folder) -> tuple[int, str, str]:
        status = vanilla_recipes.cli.main(["attention", str(model), *words, "--out", str(tmp_path / "maps")])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_maps_of_a_translation(attention, tmp_path, model_folder):
    status, out, _ = attention("the dog bites", "--target", "the man bites")
    assert status == 0
    assert sorted(file.name for file in (tmp_path / "maps").iterdir()) == FILES
    first, *heads, last = out.splitlines()
    assert first.startswith("loss   ")
    assert "mean -log p of the target's tokens" in first
    assert len(heads) == 6  # two each of encoder, decoder and cross
    assert all("without " in line for line in heads)
    assert last == "wrote  " + ", ".join(str(tmp_path / "maps" / name) for name in FILES)
    page = (tmp_path / "maps" / "attention.html").read_text(encoding="utf-8")
    assert f'"model": "{model_folder}"' in page


def test_a_choice_without_effects(attention, tmp_path):
    status, out, err = attention(
        "the dog bites", "--kind", "cross,decoder", "--layers", "0", "--heads", "1", "--no-effects"
    )
    assert (status, err) == (0, "")
    note, loss, _ = out.splitlines()
    assert note == "note   the target is what the model generates, greedily"
    assert loss == "loss   not measured"
    page = (tmp_path / "maps" / "attention.html").read_text(encoding="utf-8")
    assert '["cross", 0, 1, null' in page
    assert '["encoder", 0' not in page


def test_words_may_stand_behind_options():
    parsed = parse(["attention", "m", "--layers", "0,3,3", "--kind", "cross", "a text", "--debug"])
    assert (parsed.text, parsed.layers, parsed.kind, parsed.heads) == ("a text", (0, 3), ("cross",), None)
    assert (parsed.out, parsed.debug, parsed.no_effects) == ("attention", True, False)


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (save_marian, ["cross", "decoder", "encoder"]),
        (save_gpt2, ["decoder"]),
        (save_encoder, ["encoder"]),
        (lambda folder: save_encoder(folder, "roberta"), ["encoder"]),
    ],
    ids=["marian", "gpt2", "bert", "roberta"],
)
def test_stock_models(make, kinds, attention, tmp_path):
    status, out, err = attention("a dog sees the old man", "--layers", "0", model=make(tmp_path / "stock"))
    assert (status, err) == (0, "")
    assert sorted({line.split()[2] for line in out.splitlines() if " without " in line}) == kinds
    assert (tmp_path / "maps" / "attention.html").is_file()


def test_a_long_text_is_cut_and_this_is_told_once(attention):
    status, out, err = attention("the dog bites the man . " * 20, "--no-effects", "--kind", "encoder")
    assert status == 0
    assert (out + err).count("tokens and was cut to the 32 that the model reads") == 1


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["a dog", "--layers", "3"], 1, "there is no layer 3; this model has layer 0"),
        (["a dog", "--heads", "0,2"], 1, "there is no head 2; this model has heads 0 to 1"),
        (["a dog", "--layers", "x"], 2, "'x' is not a whole number of at least 0; write 0,3 for several"),
        (["a dog", "--layers", "0,-1"], 2, "'-1' is not a whole number of at least 0"),
        (["a dog", "--kind", "self"], 2, "'self' is no kind of attention; the kinds are encoder, decoder"),
        (["a dog", "--device", "nowhere"], 1, "there is no such device"),
        ([""], 2, "TEXT is empty: give at least one word"),
        (["a dog", "--target", " "], 2, "--target is empty"),
        (["caf\udce9"], 2, "TEXT, 'caf\\udce9': it is not UTF-8; convert it first, for instance with iconv"),
        (["a dog", "--target", "\udce9"], 2, "--target, '\\udce9': it is not UTF-8"),
        (["a", "dog"], 2, "'dog' is an unexpected argument"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(words, status, text, attention, tmp_path):
    found, out, err = attention(*words)
    assert (found, out) == (status, "")
    assert text in err
    assert err.count("\n") == 1
    assert not (tmp_path / "maps").exists()


def test_a_kind_that_the_model_lacks(attention, tmp_path):
    status, _, err = attention("a dog", "--kind", "cross", model=save_gpt2(tmp_path / "gpt2"))
    assert status == 1
    assert "gpt2: this model has no cross attention; it has decoder" in err


def test_an_existing_folder_stays_unless_it_holds_maps(attention, tmp_path):
    assert attention("a dog", "--no-effects")[0] == 0
    status, _, err = attention("a dog")
    assert status == 2
    assert "exists already; name another folder or add --overwrite" in err
    assert attention("a dog", "--overwrite", "--no-effects")[0] == 0
    (tmp_path / "maps" / "mine.txt").write_text("kept", encoding="utf-8")
    status, _, err = attention("a dog", "--overwrite")
    assert status == 2
    assert "has other files than attention maps" in err
    assert (tmp_path / "maps" / "mine.txt").read_text(encoding="utf-8") == "kept"
