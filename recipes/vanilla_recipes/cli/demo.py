"""`vanilla demo`: serves a page on which models translate, classify, fill in or continue a text."""

import argparse
import importlib.util
from contextlib import suppress

from vanilla_recipes.cli.models import load_for
from vanilla_recipes.cli.server import check_address
from vanilla_recipes.demo.answers import shown
from vanilla_recipes.errors import UserError
from vanilla_transformers.releases import install_command


def demo(arguments: argparse.Namespace) -> int:
    """Serves the page until the process is interrupted.

    Raises:
        UserError: If Gradio is missing, the address is in use, or a model cannot be shown.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UserError(f"the demo needs Gradio, which is not installed: {install_command('demo')}")
    check_address(arguments.host, arguments.port)
    names = list(dict.fromkeys(arguments.models))
    models = [shown(name, *load_for("demo", name, arguments.device)) for name in names]
    from vanilla_recipes.demo.page import serve

    with suppress(KeyboardInterrupt):  # Ctrl-C ends the server
        serve(models, arguments.host, arguments.port)
    return 0
