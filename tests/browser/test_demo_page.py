"""The demo page in a real headless Chromium: asked by keyboard, wide and narrow, light and dark."""

import socket
import threading
import time
from itertools import pairwise

import pytest
from contrast import check_contrast
from tiny import tiny_model
from tiny_languages import nllb

import vanilla_transformers as vanilla

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.*")

EVIL = "</div><img src=x onerror=alert(1)> ${1 + 1} {{value}}"
TEXT = "w10 w11 w12 w13"
NAMES = {
    "runs/a-translator-with-a-name-that-is-rather-long-for-a-narrow-screen/best": "Seq2SeqForConditionalGeneration",
    "classifier": "EncoderForSequenceClassification",
    "decoder": "DecoderForCausalLM",
    "masked": "EncoderForMaskedLM",
}
# What is read: its boxes must not meet, must lie on the page, and must not hide a part of their text.
READ = (
    "#title h1, #title p, label > span, .label, .answer p, .answer h2, .answer .text, .answer .number, button, textarea"
)
LAYOUT = """selector => {
  const nodes = [...document.querySelectorAll(selector)].filter(node => node.checkVisibility() && node.offsetWidth);
  const boxes = nodes.map(node => ({node, box: node.getBoundingClientRect()}));
  const common = (a, b, low, high) => Math.min(a[high], b[high]) - Math.max(a[low], b[low]);
  const meet = ({node: m, box: a}, {node: n, box: b}) => !m.contains(n) && !n.contains(m)
    && common(a, b, "left", "right") > 0.5 && common(a, b, "top", "bottom") > 0.5;
  const name = ({node}) => node.tagName + ": " + node.textContent.slice(0, 60);
  const isCut = ({node, box}) => box.left < 0 || box.right > innerWidth + 0.5
    || (node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).display !== "inline");
  return {count: boxes.length, cut: boxes.filter(isCut).map(name),
    meeting: boxes.flatMap((a, i) => boxes.slice(0, i).filter(b => meet(a, b)).map(b => [name(a), name(b)]))};
}"""


@pytest.fixture(scope="module")
def address(tokenizer):
    """The page of tiny models, served from this process, which may ask nobody outside for anything."""
    import uvicorn

    from vanilla_recipes.demo.answers import shown
    from vanilla_recipes.demo.page import application

    models = {name: tiny_model(getattr(vanilla, f"Vanilla{kind}")) for name, kind in NAMES.items()}
    models["classifier"].config.id2label = {
        0: EVIL,
        1: "a class with a name of many words that takes several lines",
        2: "c",
    }
    hosts, resolve = set(), socket.getaddrinfo
    with pytest.MonkeyPatch.context() as patched, socket.socket() as listening:
        patched.setattr(
            socket, "getaddrinfo", lambda host, *rest, **more: hosts.add(host) or resolve(host, *rest, **more)
        )
        listening.bind(("127.0.0.1", 0))
        shown_models = [shown(name, model, tokenizer) for name, model in models.items()]
        app = application([*shown_models, shown("polyglot", *nllb())])
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join(30)
    assert hosts <= {"127.0.0.1", "localhost", None}


@pytest.fixture
def open_page(new_page, address):
    """Opens the page."""

    def open_demo(scheme: str = "light", width: int = 1280, height: int = 1800):
        page = new_page((address, "data:", "blob:", "about:srcdoc"), scheme, width, height)
        page.goto(address)
        page.wait_for_selector("#text textarea")
        return page

    return open_demo


def choose(page, name: str) -> None:
    page.get_by_label("Model").click()
    page.get_by_role("option", name=name).click()
    page.wait_for_function("name => document.querySelector('#title code').textContent === name", arg=name)


def ask(page, text: str) -> str:
    """Writes a text and presses Enter; what appears."""
    before = page.evaluate("document.querySelector('#answer .answer')?.innerHTML ?? ''")
    page.locator("#text textarea").fill(text)
    page.locator("#text textarea").press("Enter")
    page.wait_for_function("old => (document.querySelector('#answer .answer')?.innerHTML ?? old) !== old", arg=before)
    return page.locator("#answer .answer").inner_text()  # without Gradio's clock, which stays for a moment


def show_maps(page):
    page.locator("#maps-button").click()
    frame = page.frame_locator("iframe.maps")
    frame.locator("html[data-shown]").wait_for()
    return frame


def press_until(page, key: str, condition: str) -> None:
    for _ in range(12):
        before = page.evaluate_handle("document.activeElement")
        page.keyboard.press(key)
        page.wait_for_function("before => document.activeElement !== before", arg=before)  # a frame takes a moment
        if page.evaluate(f"(() => {{ const node = document.activeElement; return {condition}; }})()"):
            return
    raise AssertionError(condition)


def test_everything_is_reached_by_keyboard(open_page):
    page = open_page()
    press_until(page, "Tab", "node.matches('#text textarea')")
    page.keyboard.type(TEXT)
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer .speed")
    assert page.locator("#answer li").count() == 4
    press_until(page, "Tab", "node.id === 'maps-button'")
    page.keyboard.press("Enter")
    frame = page.frame_locator("iframe.maps")
    frame.locator("html[data-shown]").wait_for()
    assert "Loss" in frame.locator("#measure").inner_text()
    press_until(page, "Tab", "node.matches('iframe.maps')")
    frame.locator("#kind:focus").wait_for()
    for kind in ("encoder", "decoder"):
        page.keyboard.press("Home" if kind == "encoder" else "ArrowDown")
        frame.locator(f'html[data-shown^="{kind}"]').wait_for()
    press_until(page, "Shift+Tab", "node.id === 'answer-button'")
    page.keyboard.press("Space")
    page.wait_for_selector("iframe.maps", state="detached")  # maps are those of the answer that stands there
    press_until(
        page, "Shift+Tab", "node.getAttribute('role') === 'listbox' || node.getAttribute('aria-label') === 'Model'"
    )
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#title h1').textContent !== 'Translate'")
    page.wait_for_function("!document.querySelector('#answer .answer')")
    assert page.locator("#text textarea").input_value() == ""
    assert page.locator("#maps-button").is_hidden()


def test_each_kind_of_model_answers_and_shows_its_maps(open_page):
    page = open_page()
    headings = ["Translate", "Classify", "Continue a text", "Fill in masked words"]
    counts = [4, 3, 3 + 8, 8]
    for number, (name, heading, count) in enumerate(zip(NAMES, headings, counts, strict=True)):
        if number:
            choose(page, name)
        assert page.locator("#title h1").inner_text() == heading
        told = ask(page, f"{TEXT} __" if name == "masked" else TEXT)
        assert "tokens/s" in told
        assert page.locator("#answer li").count() == count
        frame = show_maps(page)
        assert frame.locator("h1").inner_text() == f"Attention of {name}"
        if name == "classifier":
            assert EVIL in told


def test_maps_without_effects_and_as_high_as_they_are(open_page):
    page = open_page()
    ask(page, TEXT)
    page.get_by_label("with the effect of each head").uncheck()
    frame = show_maps(page)
    assert frame.locator("#measure").inner_text() == "Effects: not measured."
    page.wait_for_timeout(300)
    inner = frame.locator("main").evaluate("node => node.offsetHeight")
    assert page.locator("iframe.maps").evaluate("node => node.clientHeight") == pytest.approx(inner, abs=2)


def test_faults_are_told_on_the_page(open_page):
    page = open_page()
    assert ask(page, "  ").startswith("The text is empty: write something first, such as")
    told = ask(page, " ".join(["w10"] * 60))
    assert told == "The text has 62 tokens, 14 more than the 48 that the model reads: shorten it."
    assert page.locator('#answer [role="alert"]').count() == 1
    assert page.locator("#maps-button").is_hidden()
    assert "Note: 1 of" in ask(page, f"{TEXT[:-3]}{EVIL[:3]}")


def test_an_example_is_at_hand(open_page):
    page = open_page()
    page.get_by_role("button", name="Take an example").click()
    page.wait_for_function("document.querySelector('#text textarea').value.startsWith('A man is riding')")


def test_languages_are_chosen(open_page, tmp_path):
    page = open_page(width=360)
    choose(page, "polyglot")
    assert ask(page, "A dog runs.").startswith("M2M100ForConditionalGeneration: src_lang is missing")
    for label, code in (("From (src_lang)", "eng_Latn"), ("To (tgt_lang)", "deu_Latn")):
        page.get_by_label(label, exact=True).fill(code)
        page.get_by_role("option", name=code).last.click()  # the list before fades still
    ask(page, "A dog runs.")
    page.wait_for_timeout(500)
    page.screenshot(path=tmp_path / "languages.png")
    assert page.locator("#answer li").count() == 4
    reads_well(page, 360)


def test_two_readers_have_their_own_answers(open_page):
    first, second = open_page(), open_page()
    ask(first, "w10")
    ask(second, TEXT)
    lengths = [
        show_maps(page).locator("html").evaluate("() => data.tokens.encoder[0].length") for page in (first, second)
    ]
    assert lengths == [3, 6]


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_meets_or_is_cut_and_everything_reads_well(scheme, width, open_page, tmp_path):
    page = open_page(scheme, width, 2600 if width == 360 else 1800)
    for number, name in enumerate(NAMES):
        if number:
            choose(page, name)
        page.wait_for_timeout(500)  # colours fade
        reads_well(page, width)
        ask(page, f"{TEXT} __ unknown" if name == "masked" else f"{' '.join([TEXT] * 4)} unknown")
        show_maps(page)
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        page.screenshot(path=tmp_path / f"{number}-{scheme}-{width}.png")
        assert reads_well(page, width) > 10


def reads_well(page, width: int) -> int:
    """The number of texts, none of which meets another one, is cut or is faint."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    layout = page.evaluate(LAYOUT, READ)
    assert layout["meeting"] == []
    assert layout["cut"] == []
    check_contrast(page, READ)
    return layout["count"]


def test_what_has_the_focus_is_seen(open_page):
    page = open_page()
    looks = []
    for _ in range(4):
        page.keyboard.press("Tab")
        page.wait_for_timeout(300)
        looks.append(page.screenshot(clip={"x": 0, "y": 0, "width": 1280, "height": 420}))
    assert all(one != other for one, other in pairwise(looks))
