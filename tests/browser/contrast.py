"""How well the texts of a page stand out."""

LEAST = 4.5
"""WCAG 2.2, success criterion 1.4.3, level AA."""

# The relative luminance and the contrast ratio of WCAG 2.2, of each text with all that lies behind it.
_SCRIPT = """selector => {
  const channel = value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const pixel = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const light = colours => {
    pixel.clearRect(0, 0, 1, 1);
    for (const colour of colours) { pixel.fillStyle = colour; pixel.fillRect(0, 0, 1, 1); }
    const [r, g, b] = [...pixel.getImageData(0, 0, 1, 1).data].map(value => channel(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const grounds = node => node ? [...grounds(node.parentElement), getComputedStyle(node).backgroundColor] : [];
  const contrast = (node, pseudo) => {
    const behind = grounds(node), [a, b] = [light(behind), light([...behind, getComputedStyle(node, pseudo).color])];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const nodes = [...document.querySelectorAll(selector)].filter(node => node.checkVisibility());
  const all = nodes.flatMap(node => [[contrast(node), node.textContent.slice(0, 40)],
    ...(node.placeholder ? [[contrast(node, "::placeholder"), node.placeholder]] : [])]);
  return all.sort((a, b) => a[0] - b[0])[0];
}"""


def check_contrast(page, selector: str) -> None:
    """Fails where a text that the selector names is faint."""
    contrast, text = page.evaluate(_SCRIPT, selector)
    assert contrast >= LEAST, text
