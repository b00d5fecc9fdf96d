"""Texts of models and readers stay texts."""

from vanilla_recipes.demo.markup import answer_html, fault_html, maps_html
from vanilla_recipes.demo.records import Answer, Candidate, Group

EVIL = "</div><img src=x onerror=alert(1)>"


def test_nothing_that_is_shown_becomes_markup():
    groups = [Group(EVIL, [Candidate(EVIL, 0.5), Candidate(EVIL, before=EVIL), Candidate("", 1.0)])]
    html = answer_html(Answer(groups, 3, "read", EVIL, seconds=0.5, notes=(EVIL,)))
    assert "<img" not in html + fault_html(EVIL)
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") == 5
    for part in ("50.00 %", "width: 100.00%", "(nothing)", "3 tokens read in 0.5 s: 6 tokens/s"):
        assert part in html


def test_a_page_of_maps_reaches_nothing_outside_its_frame():
    html = maps_html(f'<html><body><main>"{EVIL}"</main></body></html>')
    assert 'sandbox="allow-scripts" srcdoc="&lt;html&gt;' in html
    assert html.count('"') == 2 * len(["class", "title", "sandbox", "srcdoc"])
    assert "mapsHeight" in html
