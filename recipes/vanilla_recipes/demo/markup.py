"""Formats answers as HTML in the colors of Gradio's theme, and attention maps as an iframe."""

from html import escape

from vanilla_recipes.demo.records import Answer, Candidate

CSS = """
:root { --font: system-ui, sans-serif; --font-mono: ui-monospace, monospace; }
.gradio-container { font-family: var(--font); }
main.fillable { max-width: 1100px !important; padding: 12px !important; }
#title h1 { margin: 0; overflow-wrap: anywhere; }
#title p, .answer .speed { color: var(--body-text-color); overflow-wrap: anywhere; margin: 4px 0; }
#model input { text-overflow: ellipsis; padding-right: 32px; }
.answer h2 { font-size: 1rem; font-weight: 600; margin: 16px 0 6px; color: var(--body-text-color); }
.answer ol { list-style: none; margin: 0; padding: 0; }
.answer li { margin: 0; padding: 7px 0; border-top: 1px solid var(--border-color-primary);
  color: var(--body-text-color); display: grid;
  grid-template-columns: minmax(0, 1fr) 120px 4.5em; gap: 4px 12px; align-items: center; }
.answer li.whole { display: block; }
.answer li:first-child .text { font-weight: 600; }
.answer .text { white-space: pre-wrap; overflow-wrap: anywhere; }
.answer .whole .text, .answer .before { font-weight: 400 !important; }
.answer .before { opacity: 0.75; }
.answer .bar { height: 10px; border-radius: 5px; background: var(--border-color-primary); overflow: hidden; }
.answer .bar i { display: block; height: 100%; background: var(--primary-500); }
.answer .number { text-align: right; font-variant-numeric: tabular-nums; }
.answer .fault { border-left: 4px solid #c2410c; padding: 6px 12px; overflow-wrap: anywhere;
  color: var(--body-text-color); }
.answer .note { margin: 6px 0; overflow-wrap: anywhere; color: var(--body-text-color); }
#answer .html-container, #maps .html-container { padding: 0; }
iframe.maps { display: block; width: 100%; height: 900px; border: 1px solid var(--border-color-primary); }
.gradio-container :focus-visible { outline: 2px solid var(--primary-500); outline-offset: 2px; }
@media (max-width: 600px) {
  .answer li { grid-template-columns: minmax(0, 1fr) 4.5em; }
  .answer .text { grid-column: 1 / -1; }
}
"""

SCRIPT = """() => {
  document.getElementById("answer").setAttribute("aria-live", "polite");
  window.addEventListener("message", event => {
    const frame = document.querySelector("iframe.maps"), height = Math.ceil(Number(event.data?.mapsHeight));
    if (frame && event.source === frame.contentWindow && height > 0) frame.style.height = Math.min(height, 1e4) + "px";
  });
}"""
"""Script that announces answers to screen readers, and sets the frame to the height that the page inside reports."""

_TELL_HEIGHT = """<script>
new ResizeObserver(([{target}]) => parent.postMessage({mapsHeight: target.offsetHeight + 2}, "*"))
  .observe(document.querySelector("main"));
</script></body>"""


def answer_html(answer: Answer) -> str:
    """Returns the HTML of an answer: speed, notes and candidates."""
    notes = "".join(f'<p class="note">Note: {escape(note)}.</p>' for note in answer.notes)
    groups = "".join(
        f"<h2>{escape(group.heading)}</h2><ol>{''.join(map(_candidate, group.candidates))}</ol>"
        for group in answer.groups
    )
    return f'<div class="answer"><p class="speed">{escape(answer.speed)}</p>{notes}{groups}</div>'


def _candidate(candidate: Candidate) -> str:
    before = f'<span class="before">{escape(candidate.before)}</span>' if candidate.before else ""
    text = f'<span class="text">{before}{escape(candidate.text) or "(nothing)"}</span>'
    if candidate.probability is None:
        return f'<li class="whole">{text}</li>'
    percent = 100 * candidate.probability
    bar = f'<span class="bar" aria-hidden="true"><i style="width: {percent:.2f}%"></i></span>'
    return f'<li>{text}{bar}<span class="number">{percent:.2f} %</span></li>'


def fault_html(message: str) -> str:
    """Returns the HTML of an error message."""
    return f'<div class="answer"><p class="fault" role="alert">{escape(message[:1].upper() + message[1:])}.</p></div>'


def maps_html(page: str) -> str:
    """Returns the page of attention maps in a sandboxed frame: its script runs but cannot access the outer page."""
    page = page.replace("</body>", _TELL_HEIGHT)
    return f'<iframe class="maps" title="Attention maps" sandbox="allow-scripts" srcdoc="{escape(page)}"></iframe>'
