"""The page of `vanilla attention` in a real headless Chromium: what a reader sees, hears and presses."""

import pytest
import torch
from contrast import check_contrast

from vanilla_transformers.inspection.maps import AttentionMaps
from vanilla_transformers.inspection.probe import Head

EVIL = "</script><img src=x onerror=alert(1)>"
# Records where each label lands on the canvas, in pixels of the page.
SPY = """
window.labels = [];
const write = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
  const size = this.measureText(text), at = this.getTransform(), scale = window.devicePixelRatio;
  const start = this.textAlign === "right" ? -size.width : 0;
  const ends = [[start, -size.actualBoundingBoxAscent], [start + size.width, size.actualBoundingBoxDescent]];
  const corners = ends.map(([a, b]) => new DOMPoint(a, b).matrixTransform(at));
  const [xs, ys] = ["x", "y"].map(name => corners.map(point => point[name] / scale).sort((a, b) => a - b));
  window.labels.push({text, left: xs[0], right: xs[1], top: ys[0], bottom: ys[1]});
  return write.call(this, text, x, y);
};
"""
READ = "h1, h2, p, label, select, .legend span, th, td button"
# The page's own texts that meet; within a row of a table that is scrolled, one lies over the others on purpose.
TEXTS = """selector => {
  const nodes = [...document.querySelectorAll(selector)];
  const all = nodes.filter(node => node.offsetParent).map(node => ({node, box: node.getBoundingClientRect()}));
  const common = (a, b, low, high) => Math.min(a.box[high], b.box[high]) - Math.max(a.box[low], b.box[low]);
  const meet = (a, b) => common(a, b, "left", "right") > 0.5 && common(a, b, "top", "bottom") > 0.5;
  const row = one => one.node.closest("tr") || one;
  return all.flatMap((a, place) => all.slice(0, place).filter(b => meet(a, b) && row(a) !== row(b))
    .map(b => [a.node.textContent, b.node.textContent]));
}"""


def sample_maps(source: int = 9, target: int = 7, layers: int = 3, heads: int = 4) -> AttentionMaps:
    """Maps of a translator; one token tries to get out of its place."""
    generator = torch.Generator().manual_seed(0)
    sources = [EVIL, *(f"source{number}" for number in range(1, source))]
    targets = ["<s>", *(f"target{number}" for number in range(1, target))]
    tokens = {"encoder": (sources, sources), "decoder": (targets, targets), "cross": (targets, sources)}
    weights, changes = {}, {}
    for kind, (rows, columns) in tokens.items():
        for layer in range(layers):
            for head in range(heads):
                scores = 3 * torch.randn(len(rows), len(columns), generator=generator)
                if kind == "decoder":
                    scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -1e9)
                weights[Head(kind, layer, head)] = scores.softmax(-1)
                changes[Head(kind, layer, head)] = torch.randn((), generator=generator).item() / 10
    measure = "mean -log p of the target's tokens"
    notes = ("the target is what the model generates, with 4 beams",)
    return AttentionMaps(
        "runs/a-folder-with-a-name-that-is-rather-long/best", weights, tokens, 1.2345, changes, measure, notes
    )


@pytest.fixture
def open_page(new_page, tmp_path):
    """Opens maps as a file, without a network."""

    def open_maps(maps: AttentionMaps, scheme: str = "light", width: int = 1280, height: int = 800):
        file = tmp_path / "attention.html"
        maps.save_html(file)
        page = new_page((file.as_uri(),), scheme, width, height, offline=True)
        page.add_init_script(SPY)
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-shown]")
        return page

    return open_maps


def wait_for(page, condition: str) -> None:
    """Asks again and again: the page's own policy forbids the `eval` of Playwright's wait_for_function."""
    for _ in range(250):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(condition)


def picture(page) -> str:
    return page.evaluate("document.getElementById('canvas').toDataURL()")


def pick(page, kind: str, layer: int, head: int) -> None:
    for name, value in (("Attention", kind), ("Layer", layer), ("Head", head)):
        page.get_by_label(name, exact=True).select_option(str(value))
    page.wait_for_selector(f'html[data-shown="{kind} {layer} {head}"]')


def point_at(page, row: int, column: int) -> str:
    """The readout of a weight that the mouse is put upon."""
    place = page.evaluate("""([row, column]) => {
      const box = canvas.getBoundingClientRect(), place = number => layout.gutter + (number + 0.5) * layout.size;
      return [box.left + place(column) - view.scrollLeft, box.top + place(row) - view.scrollTop];
    }""", [row, column])  # fmt: skip
    page.mouse.move(*place)
    return page.locator("#readout").inner_text()


def test_the_strongest_head_is_shown_first_and_pickers_change_the_map(open_page):
    maps = sample_maps()
    page = open_page(maps)
    strongest = max(maps.loss_changes, key=lambda head: abs(maps.loss_changes[head]))
    assert page.get_attribute("html", "data-shown") == " ".join(map(str, strongest))
    assert page.title() == "Attention of runs/a-folder-with-a-name-that-is-rather-long/best"
    pictures = [picture(page)]
    for choice in (("cross", 0, 0), ("cross", 1, 0), ("cross", 1, 2), ("decoder", 1, 2), ("encoder", 1, 2)):
        pick(page, *choice)
        effect = f"{maps.loss_changes[choice]:+.3f}".replace("-", "\u2212")
        assert (
            page.locator("#effect").inner_text()
            == f"{choice[0]} layer {choice[1]}, head {choice[2]}: loss {effect} without it"
        )
        pictures.append(picture(page))
        assert pictures[-1] != pictures[-2]


def test_a_weight_is_read_by_mouse_and_by_keyboard(open_page):
    maps = sample_maps()
    page = open_page(maps)
    pick(page, "cross", 2, 1)
    weights = maps.weights["cross", 2, 1]
    assert point_at(page, 3, 4) == f"target3 (3) → source4 (4): {weights[3, 4]:.4f}"
    page.get_by_label("Head", exact=True).focus()
    page.keyboard.press("Tab")  # the colours
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "view"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.locator("#readout").inner_text() == f"target4 (4) → source5 (5): {weights[4, 5]:.4f}"
    page.keyboard.press("Home")
    assert page.locator("#readout").inner_text() == f"target4 (4) → {EVIL} (0): {weights[4, 0]:.4f}"
    page.keyboard.press("ArrowLeft")  # the border
    assert "(0):" in page.locator("#readout").inner_text()


def test_the_overview_picks(open_page):
    maps = sample_maps()
    page = open_page(maps)
    page.get_by_role("button", name="decoder layer 2, head 3").click()
    page.wait_for_selector('html[data-shown="decoder 2 3"]')
    assert page.get_by_label("Layer", exact=True).input_value() == "2"
    assert page.locator('td button[aria-pressed="true"]').count() == 1
    assert page.locator("td button").count() == 36


def test_colours_by_the_largest_weight_or_up_to_1(open_page):
    maps = sample_maps()
    page = open_page(maps)
    pick(page, "encoder", 0, 0)
    before = picture(page)
    assert page.locator("#top").inner_text() == f"{maps.weights['encoder', 0, 0].max():.3f}"
    page.get_by_label("Colours").select_option("one")
    assert page.locator("#top").inner_text() == "1.000"
    assert picture(page) != before


def test_a_long_input_is_scrolled_with_its_labels(open_page):
    maps = sample_maps(source=300, target=120, layers=1, heads=2)
    page = open_page(maps)
    pick(page, "cross", 0, 1)
    assert page.evaluate("view.scrollWidth > 2 * view.clientWidth && view.scrollHeight > 2 * view.clientHeight")
    page.evaluate("labels.length = 0; view.scrollTo(3000, 900)")
    wait_for(page, "view.scrollLeft === 3000 && labels.length > 0")
    shown = page.evaluate("labels.map(label => label.text)")
    assert "source1" not in shown
    assert {"source190", "target60"} <= set(shown)
    assert point_at(page, 60, 190) == f"target60 (60) → source190 (190): {maps.weights['cross', 0, 1][60, 190]:.4f}"
    page.keyboard.press("Tab")
    page.locator("#view").focus()
    page.keyboard.press("End")
    wait_for(page, "view.scrollLeft > view.scrollWidth - view.clientWidth - 2")
    assert "source299" in page.locator("#readout").inner_text()


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["short", "long"])
def test_nothing_meets_or_is_cut_and_everything_reads_well(size, scheme, width, open_page, tmp_path):
    maps = sample_maps() if size == "short" else sample_maps(source=80, target=60, layers=2, heads=12)
    page = open_page(maps, scheme, width)
    page.screenshot(path=tmp_path / f"{size}-{scheme}-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("labels.length = 0; draw()")
    box = page.evaluate("({width: view.clientWidth, height: view.clientHeight})")
    labels = page.evaluate("labels")
    assert len(labels) > 10
    for number, label in enumerate(labels):
        assert label["left"] >= 0
        assert label["top"] >= 0
        assert label["right"] <= box["width"]
        assert label["bottom"] <= box["height"]
        for other in labels[:number]:
            across = min(label["right"], other["right"]) - max(label["left"], other["left"])
            down = min(label["bottom"], other["bottom"]) - max(label["top"], other["top"])
            assert across <= 0 or down <= 0, (label, other)
    assert page.evaluate(TEXTS, READ) == []
    check_contrast(page, READ)


def test_the_colours_follow_the_reader(open_page):
    page = open_page(sample_maps())
    before = picture(page)
    page.emulate_media(color_scheme="dark")
    wait_for(page, "theme.ground === '#14171c'")
    assert picture(page) != before


def test_maps_without_effects(open_page):
    maps = sample_maps()
    bare = AttentionMaps(maps.model, maps.weights, maps.tokens, None, {}, "not measured")
    page = open_page(bare)
    assert page.locator("#measure").inner_text() == "Effects: not measured."
    assert not page.locator("#key").is_visible()
    page.get_by_role("button", name="cross layer 1, head 0").click()
    page.wait_for_selector('html[data-shown="cross 1 0"]')
    assert page.locator("#effect").inner_text() == "cross layer 1, head 0"
