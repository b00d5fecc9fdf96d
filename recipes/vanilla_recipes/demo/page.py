"""Builds the demo page with Gradio and serves it. The page loads nothing from other servers."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads the variable when it is imported
import gradio
import uvicorn
from fastapi import FastAPI

from vanilla_recipes.demo.answers import answer
from vanilla_recipes.demo.maps import maps_page
from vanilla_recipes.demo.markup import CSS, SCRIPT, answer_html, fault_html, maps_html
from vanilla_recipes.demo.records import Answer, Shown
from vanilla_recipes.errors import UserError

# All requests share one queue. The computation of attention maps changes how a model runs, so no other request may run
# at the same time.
_QUEUE = "model"


def build(models: Sequence[Shown]) -> gradio.Blocks:
    """Builds the page for one or more models; with several models the page has a menu to choose one.

    Args:
        models: models prepared by `answers.shown`, with different names.
    """
    by_name = {model.name: model for model in models}
    first = models[0]
    with gradio.Blocks(title="vanilla_transformers", analytics_enabled=False) as blocks:
        last = gradio.State(None)
        title = gradio.Markdown(_title(first), elem_id="title")
        name = gradio.Dropdown(list(by_name), value=first.name, label="Model", visible=len(models) > 1, elem_id="model")
        with gradio.Row(visible=bool(first.languages)) as directions:
            source, target = (gradio.Dropdown(**options) for options in _directions(first))
        text = gradio.Textbox(**_textbox(first), lines=1, max_lines=12, elem_id="text")
        with gradio.Row():
            button = gradio.Button(first.task.button, variant="primary", elem_id="answer-button")
            example = gradio.Button("Take an example")
        result = gradio.HTML(elem_id="answer")
        with gradio.Row(visible=False) as asking:
            show = gradio.Button("Show the attention maps", elem_id="maps-button")
            effects = gradio.Checkbox(value=True, label="with the effect of each head on the loss, which takes longer")
        maps = gradio.HTML(elem_id="maps")

        def on_model(chosen: str) -> list[Any]:
            model = by_name[chosen]
            updates = [{"visible": bool(model.languages)}, *_directions(model), {"value": "", **_textbox(model)}]
            fields = [_title(model), *(gradio.update(**update) for update in updates), model.task.button]
            return [*fields, "", None, gradio.update(visible=False), ""]

        def on_text(chosen: str, written: str, *languages: str | None) -> list[Any]:
            codes = {key: code for key, code in zip(("src_lang", "tgt_lang"), languages, strict=True) if code}
            try:
                found = answer(by_name[chosen], written, codes)
            except UserError as error:
                return [fault_html(str(error)), None, gradio.update(visible=False), ""]
            return [answer_html(found), found, gradio.update(visible=True), ""]

        def on_maps(chosen: str, found: Answer, with_effects: bool) -> str:
            try:
                return maps_html(maps_page(by_name[chosen], found, with_effects))
            except UserError as error:
                return fault_html(str(error))

        def react(events: list[Callable[..., Any]], function: Callable[..., Any], inputs: Any, outputs: Any) -> None:
            gradio.on(
                events, function, inputs, outputs, concurrency_id=_QUEUE, concurrency_limit=1, api_visibility="private"
            )

        shown = [result, last, asking, maps]
        react([name.change], on_model, [name], [title, directions, source, target, text, button, *shown])
        react([button.click, text.submit], on_text, [name, text, source, target], shown)
        react([example.click], lambda chosen: by_name[chosen].task.example, [name], [text])
        react([show.click], on_maps, [name, last, effects], [maps])
    return blocks


def _title(model: Shown) -> str:
    return f"# {model.task.heading}\n`{model.name}`<br>{model.facts}"


def _textbox(model: Shown) -> dict[str, Any]:
    return {"label": model.task.label, "placeholder": model.task.example}


def _directions(model: Shown) -> list[dict[str, Any]]:
    """Returns the settings of the menus for source and target language of a multilingual model."""
    saved = model.tokenizer.init_kwargs
    fields = (("From (src_lang)", saved.get("src_lang")), ("To (tgt_lang)", saved.get("tgt_lang")))
    return [
        {"choices": model.languages, "label": label, "value": code if code in model.languages else None}
        for label, code in fields
    ]


def application(models: Sequence[Shown]) -> FastAPI:
    """Returns the page as an application for a web server."""
    plain = ("sans-serif",)  # Gradio would download any other font; the CSS names installed fonts
    theme = gradio.themes.Default(primary_hue="blue", neutral_hue="slate", font=plain, font_mono=("monospace",))
    theme.set(  # the contrast of the default colors is too low
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )
    return gradio.mount_gradio_app(
        FastAPI(),
        build(models),
        "/",
        theme=theme,
        css=CSS,
        js=SCRIPT,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
    )


class _Server(uvicorn.Server):
    """A server that exits at once: it does not wait for open pages to disconnect, and prints no errors about them."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self.force_exit = True
        super().handle_exit(sig, frame)


def serve(models: Sequence[Shown], host: str, port: int) -> None:
    """Serves the page until the process is interrupted."""
    server = _Server(uvicorn.Config(application(models), host=host, port=port, log_level="warning"))
    print(f"the demo is at http://{'localhost' if host == '0.0.0.0' else host}:{port}; Ctrl-C ends it", flush=True)
    server.run()
