"""The page and the pictures of attention maps; tests/browser opens the page."""

import base64
import json
import re
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import DECODERS, ENCODERS, SEQ2SEQ, tiny_model
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, RobertaConfig, RobertaModel

from vanilla_transformers import attention_maps
from vanilla_transformers.inspection.maps import MOST_PANELS, AttentionMaps, page, signed, strongest
from vanilla_transformers.inspection.positions import draw_positions, position_tables
from vanilla_transformers.inspection.probe import Head

EVIL = "</script><script>alert(1)</script>"


def some_maps(rows: int, columns: int, heads: int, kind: str = "cross", token: str = "token") -> AttentionMaps:
    weights = torch.rand(heads, rows, columns, generator=torch.Generator().manual_seed(0)).softmax(-1)
    names = [Head(kind, 0, head) for head in range(heads)]
    return AttentionMaps(
        model="model",
        weights=dict(zip(names, weights, strict=True)),
        tokens={kind: ([f"{token}{row}" for row in range(rows)], [f"{token}{column}" for column in range(columns)])},
        loss=1.5,
        loss_changes={head: 0.01 * head.head for head in names},
        measure="measure",
        notes=("note",),
    )


def data_of(html: str) -> dict:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(data)


def test_the_page_holds_the_weights():
    maps = some_maps(3, 5, 2)
    data = data_of(page(maps))
    kind, layer, head, change, packed = data["heads"][1]
    weights = np.frombuffer(zlib.decompress(base64.b64decode(packed)), "<u2").reshape(3, 5) / 65535
    assert (kind, layer, head, change) == ("cross", 0, 1, 0.01)
    assert weights == pytest.approx(maps.weights["cross", 0, 1].numpy(), abs=1 / 65535)
    assert data["first"] == ["cross", 0, 1]  # that with the largest effect
    assert (data["loss"], data["measure"], data["notes"]) == (1.5, "measure", ["note"])


def test_no_text_can_end_the_script_that_holds_it():
    html = page(some_maps(2, 2, 1, token=EVIL))
    assert EVIL not in html
    assert data_of(html)["tokens"]["cross"][0][0] == f"{EVIL}0"
    assert html.count("<script") == html.count("</script") == 2


def test_the_page_names_no_other_place():
    html = page(some_maps(2, 2, 1))
    assert not re.search(r"https?:|//\w|url\(|@import|<link|<img", html)
    assert "default-src 'none'" in html


def test_heads_by_their_effects():
    maps = some_maps(2, 2, 3)
    assert [head.head for head in strongest(maps)] == [2, 1, 0]
    assert signed(-0.0004) == "0.000"
    assert signed(-0.0312) == "-0.031"


def size_of(path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        ink = (np.asarray(image.convert("L")) < 250).mean()
        assert 0.05 < ink < 0.95
        return image.size


@pytest.mark.parametrize(("rows", "columns", "heads"), [(1, 1, 1), (3, 30, 2), (500, 500, 4), (8, 8, 60)])
def test_a_picture_of_any_size(rows, columns, heads, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        some_maps(rows, columns, heads, token="$x^{ 漢").save_png(tmp_path / "maps.png")  # no formula, no such glyph
    width, height = size_of(tmp_path / "maps.png")
    assert width < 4000
    assert height < 400 * -(-min(heads, MOST_PANELS) // 4) + 500


def test_labels_of_a_picture_do_not_meet(monkeypatch, tmp_path):
    """Titles, tick labels and the legend, as they are drawn; tokens as long as they are shown."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **kwargs: drawn.append(figure) or savefig(figure, *args, **kwargs)
    )
    maps = some_maps(30, 38, 5, kind="encoder", token="a_long_token_")
    maps.tokens["decoder"] = maps.tokens["encoder"]  # so that the titles are long
    maps.save_png(tmp_path / "maps.png")
    (figure,) = drawn
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = []
    for axes in figure.axes:
        labels = [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.title, axes._left_title, axes.yaxis.label]
        boxes += [text.get_window_extent(renderer) for text in labels if text.get_text() and axes.axison]
    for number, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        for other in boxes[:number]:
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert width <= 1 or height <= 1  # pixels of the empty border of a glyph


def test_tables_of_positions(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    bert = BertModel(BertConfig(**sizes, max_position_embeddings=20))
    roberta = RobertaModel(RobertaConfig(**sizes, max_position_embeddings=20, pad_token_id=1))
    gpt2 = GPT2Model(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=20))
    (table,) = position_tables(bert).values()
    assert torch.equal(table, bert.embeddings.position_embeddings.weight)
    assert {name: table.shape for name, table in position_tables(gpt2).items()} == {"wpe": (20, 16)}
    assert [table.shape for table in position_tables(roberta).values()] == [(18, 16)]  # two rows are for padding
    learned = tiny_model(DECODERS[0], position_offset=2)
    (table,) = position_tables(learned).values()
    assert torch.equal(table, learned.input_embedding.positions.weight[2:])
    (table,) = position_tables(tiny_model(SEQ2SEQ[1])).values()  # source and target share the sinusoids
    assert table[3, :2].tolist() == pytest.approx([np.sin(3), np.cos(3)])
    both = tiny_model(SEQ2SEQ[1], position_embedding_type="learned")
    assert len(position_tables(both)) == 2
    for model in (bert, both, tiny_model(SEQ2SEQ[1], max_position_embeddings=2000)):
        assert draw_positions(model, tmp_path / "positions.png")
        size_of(tmp_path / "positions.png")


def test_without_a_table_of_positions_there_is_no_picture(tmp_path):
    assert not draw_positions(tiny_model(ENCODERS[0], position_embedding_type="none"), tmp_path / "positions.png")
    assert not list(tmp_path.iterdir())


def test_maps_of_a_model_as_page_and_picture(tokenizer, tmp_path):
    maps = attention_maps(tiny_model(DECODERS[1]), tokenizer, "w7 w8 w9")
    maps.save_html(tmp_path / "maps.html")
    maps.save_png(tmp_path / "maps.png")
    assert len(data_of((tmp_path / "maps.html").read_text(encoding="utf-8"))["heads"]) == 8
    size_of(tmp_path / "maps.png")
