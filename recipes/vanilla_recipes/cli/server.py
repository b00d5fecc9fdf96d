"""`vanilla serve`: runs transformers' OpenAI-compatible server with one model, which is checked before the start."""

import argparse
import functools
import socket
import sys
from contextlib import suppress
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    PreTrainedConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging
from transformers.utils.import_utils import is_serve_available

from vanilla_recipes.cli.models import checked_device
from vanilla_recipes.errors import UserError
from vanilla_recipes.models.model_folder import load_saved
from vanilla_transformers.releases import install_command
from vanilla_transformers.text.answers import num_positions
from vanilla_transformers.text.cache_check import with_right_cache

# A chat template that joins the messages with line breaks, for tokenizers without a chat template.
PLAIN_CHAT = "{{ messages | map(attribute='content') | join('\n') }}"


def serve(arguments: argparse.Namespace) -> int:
    """Serves requests until the process is interrupted.

    Raises:
        UserError: If the server's packages are missing, the model cannot be served, or the address is in use.
    """
    if not is_serve_available():
        raise UserError(f"the server needs packages that are not installed: {install_command('serving')}")
    device = checked_device(arguments.device)
    check_address(arguments.host, arguments.port)
    logging.disable_progress_bar()
    model, tokenizer = load_saved(arguments.model, AutoModelForCausalLM, functools.partial(check_kind, arguments.model))
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_CHAT
        print(
            f"{arguments.model}: the tokenizer has no chat template, so /v1/chat/completions joins the messages with "
            "line breaks; /v1/completions takes a text to continue",
            file=sys.stderr,
        )
    with_right_cache(model.eval().to(device))
    bound_length(model)
    run_server(arguments.model, model, tokenizer, arguments.host, arguments.port)
    return 0


def check_kind(name: str, config: PreTrainedConfig) -> None:
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        raise UserError(
            f"{name}: it is a {config.model_type!r} model, which cannot continue a text; a decoder with a "
            "language-model head is needed, such as vanilla_decoder or gpt2"
        )


def check_address(host: str, port: int) -> None:
    """Checks that the address is free, by binding it once before the model is loaded.

    Raises:
        UserError: If the address is in use or does not belong to this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: cannot be listened on ({error.strerror}); choose another --port, or a "
            "--host of this machine"
        ) from error


class PositionsEnd(StoppingCriteria):
    """Stops when the text fills the model's positions. `MaxLengthCriteria` would replace the limit of the client."""

    def __init__(self, num_positions: int) -> None:
        self.num_positions = num_positions

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return torch.full((input_ids.shape[0],), input_ids.shape[1] >= self.num_positions, device=input_ids.device)


def bound_length(model: Any) -> None:
    """Makes generation stop at the last position of the model.

    If a client sets no limit, the server requests 1,024 new tokens. The model may have fewer positions.
    """
    limit = num_positions(model.config)
    generate = model.generate

    def bounded(**inputs: Any) -> Any:
        from fastapi import HTTPException

        length = inputs["input_ids"].shape[1]
        if length >= limit:
            raise HTTPException(400, f"the prompt has {length} tokens, but the model has {limit} positions: shorten it")
        return generate(**inputs, stopping_criteria=StoppingCriteriaList([PositionsEnd(limit)]))

    model.generate = bounded


def run_server(name: str, model: Any, tokenizer: Any, host: str, port: int) -> None:
    """Runs the server of transformers (`Serve`) with a model that is already loaded.

    Replaces the server's `ModelManager`, which can load only the model classes of transformers.
    """
    from transformers.cli.serve import Serve
    from transformers.cli.serving import model_manager

    class OneModel(model_manager.ModelManager):
        def _load_processor(self, *_: Any, **__: Any) -> Any:
            return tokenizer

        def _load_model(self, *_: Any, **__: Any) -> Any:
            return model

        @staticmethod
        def get_gen_models(cache_dir: str | None = None) -> list[dict[str, Any]]:
            return [{"id": name, "object": "model", "created": 0, "owned_by": "vanilla_transformers"}]

    model_manager.ModelManager = OneModel
    with suppress(KeyboardInterrupt):  # Ctrl-C ends the server
        Serve(force_model=name, host=host, port=port)
