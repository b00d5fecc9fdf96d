"""Where sentences end, in several scripts, and that joining them gives the text again."""

# ruff: noqa: RUF001 (letters of other scripts look like Latin ones)

import pytest

from vanilla_transformers.text.sentences import join_sentences, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        ('He said "Go." She went. (So did I.) End.', ['He said "Go."', "She went.", "(So did I.)", "End."]),
        ("It costs 3.14 at www.shop.de today. Yes.", ["It costs 3.14 at www.shop.de today.", "Yes."]),
        ("Am 3. Oktober kam J. S. Bach. Ende 1990. Und?", ["Am 3. Oktober kam J. S. Bach.", "Ende 1990.", "Und?"]),
        ("e.g. this, i.e. that etc. and so on. Next.", ["e.g. this, i.e. that etc. and so on.", "Next."]),
        ("Wait... what? No way!", ["Wait... what?", "No way!"]),
        ("你好。今天好吗？很好！", ["你好。", "今天好吗？", "很好！"]),
        ("「はい。」と言った。終わり", ["「はい。」", "と言った。", "終わり"]),
        ("यह एक है। यह दो है॥ तीन", ["यह एक है।", "यह दो है॥", "तीन"]),
        ("كيف حالك؟ أنا بخير. شكرا", ["كيف حالك؟", "أنا بخير.", "شكرا"]),
        ("یہ ایک ہے۔ یہ دو ہے۔", ["یہ ایک ہے۔", "یہ دو ہے۔"]),
        ("A headline\nA line\n\nAnother", ["A headline", "A line", "Another"]),
        ("  no end at all  ", ["no end at all"]),
        ("...", ["..."]),
        ("", []),
    ],
)
def test_where_sentences_end(text, sentences):
    found = split_sentences(text)
    assert [sentence for sentence, _ in found] == sentences
    assert "".join(sentence + gap for sentence, gap in found) == text.strip()


@pytest.mark.parametrize(
    ("source", "translated", "joined"),
    [
        ("One.  Two. Three.", ["Eins.", "Zwei.", "Drei."], "Eins. Zwei. Drei."),
        ("One.\n\nTwo. Three.", ["Eins.", "Zwei.", "Drei."], "Eins.\n\nZwei. Drei."),
        ("你好。再见。", ["Hello.", "Goodbye."], "Hello. Goodbye."),
        ("Hello. Goodbye.", ["你好。", "再见。"], "你好。再见。"),
    ],
)
def test_translations_are_joined(source, translated, joined):
    gaps = [gap for _, gap in split_sentences(source)]
    assert join_sentences(translated, gaps) == joined
