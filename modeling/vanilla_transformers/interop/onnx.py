"""Exports our models to ONNX. Files, inputs and outputs have the names that Optimum and ONNX Runtime's tools expect."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vanilla_transformers.interop.checks import Check, InteropError, difference_check, tokens_check
from vanilla_transformers.interop.onnx_graphs import Graph, empty_past, graphs, output_names, past_names
from vanilla_transformers.interop.samples import (
    Rows,
    encoded,
    end_tokens,
    generated,
    in_float32,
    num_new_tokens,
    padded,
    plain_generation,
    random_rows,
    until_end,
)
from vanilla_transformers.releases import install_command

TOLERANCE = 1e-4  # largest difference of outputs in fp32, see `difference_check`
LARGEST_FILE = 2**31 - 2**20  # bytes: an ONNX file must stay below 2 GiB, so larger weights go into a second file

Tensors = dict[str, torch.Tensor]


def write(model: PreTrainedModel, folder: Path) -> None:
    """Writes the float32 graphs of a model, its config and its generation config into `folder`.

    The graphs accept any batch size, any sequence length and any number of choices.

    Args:
        model: an encoder or a decoder with any head, or a `VanillaSeq2SeqForConditionalGeneration`, on the CPU.
        folder: created if it does not exist.

    Raises:
        InteropError: If a package is not installed, or the model's class cannot be exported.
    """
    require_packages()
    check_exportable(model)
    folder.mkdir(parents=True, exist_ok=True)
    for graph in graphs(in_float32(model)):
        write_graph(graph, folder)
    config = copy.copy(model.config)
    del config.auto_map  # the field names code files, which this folder does not contain
    config.to_json_file(folder / "config.json")
    if model.can_generate():
        model.generation_config.save_pretrained(folder)


def require_packages() -> None:
    """Raises an `InteropError` if a package for the export is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InteropError(f"{error.name} is not installed: {install_command('onnx')}") from None


def check_exportable(model: PreTrainedModel) -> None:
    """Raises an `InteropError` if the class of the model cannot be exported."""
    name = type(model).__name__
    if not name.startswith("Vanilla") or name == "VanillaSeq2SeqModel":
        raise InteropError(
            f"{name} has no ONNX graph; export one of our models with a head, and convert a transformers model with "
            "`vanilla import` first"
        )


def write_graph(graph: Graph, folder: Path) -> None:
    """Exports one graph into `folder`."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in graph.module.state_dict().values())
    with torch.no_grad(), quiet():
        torch.onnx.export(
            graph.module.eval(),
            tuple(graph.inputs.values()),
            folder / graph.file,
            input_names=list(graph.inputs),
            output_names=graph.outputs,
            dynamic_shapes=(tuple(free_axes(name, tensor) for name, tensor in graph.inputs.items()),),
            dynamo=True,
            external_data=size > LARGEST_FILE,
            verbose=False,
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Hides torch's warnings about equal axis names and its log lines below ERROR, such as hints at other packages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
        try:
            yield
        finally:
            logger.setLevel(level)


def free_axes(name: str, tensor: torch.Tensor) -> dict[int, str]:
    """The axes of an input whose sizes may vary, with Optimum's names of the axes."""
    if name.startswith("past_key_values"):
        return {0: "batch_size", 2: "encoder_sequence_length" if ".encoder." in name else "past_sequence_length"}
    if name.startswith("encoder_"):
        return {0: "batch_size", 1: "encoder_sequence_length"}
    if name == "attention_mask" and tensor.ndim == 2:
        return {0: "batch_size", 1: "total_sequence_length"}
    return dict(enumerate(("batch_size", "num_choices", "sequence_length")[:: 3 - tensor.ndim + 1]))


def check(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, sources: list[str]) -> list[Check]:
    """Compares the outputs of ONNX Runtime with those of the exported model.

    A generating model is compared by greedy search with a cache: ONNX Runtime searches a batch, the model one row at a
    time. Any other model is compared by its outputs on a padded batch and on a single row.

    Args:
        model: the exported model, on the CPU.
        tokenizer: the tokenizer of the model.
        folder: the folder that `write` filled.
        sources: texts to encode, to translate or to continue.
    """
    rows = {"random input": random_rows(model, tokenizer), "real input": encoded(model, tokenizer, sources)}
    model = in_float32(model)
    checks = generation_checks if model.can_generate() else output_checks
    with torch.inference_mode():
        return [result for name, ids in rows.items() for result in checks(model, folder, name, ids)]


def output_checks(model: PreTrainedModel, folder: Path, source: str, rows: Rows) -> Iterator[Check]:
    """Compares the outputs for a padded batch and for its first row alone. `source` names the input in the checks."""
    run = runner(folder / "model.onnx")
    for name in output_names(model):
        pairs = [
            (model(**inputs)[name], run(inputs)[name])
            for inputs in (inputs_of(model, rows), inputs_of(model, rows[:1]))
        ]
        ours, theirs = (torch.cat([tensor.flatten() for tensor in side]) for side in zip(*pairs, strict=True))
        yield difference_check(f"{name}, {source}", ours, theirs, TOLERANCE)


def inputs_of(model: PreTrainedModel, rows: Rows) -> Tensors:
    """The inputs of a padded batch with all token types; for a multiple-choice head each row has three choices."""
    input_ids, attention_mask = padded(model, rows)
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if model.config.type_vocab_size:
        inputs["token_type_ids"] = input_ids % model.config.type_vocab_size
    if type(model).__name__.endswith("MultipleChoice"):
        inputs = {name: torch.stack((tensor, tensor.flip(0), tensor), 1) for name, tensor in inputs.items()}
    return inputs


def generation_checks(model: Any, folder: Path, source: str, rows: Rows) -> Iterator[Check]:
    """Compares the greedy tokens and their logits. `source` names the input in the checks."""
    is_seq2seq = model.config.is_encoder_decoder
    num_new = num_new_tokens(model, rows)
    tokens, logits = (seq2seq_steps if is_seq2seq else decoder_steps)(model, folder, rows, num_new)
    expected = []
    for row, new in zip(rows, tokens, strict=True):
        start = [model.generation_config.decoder_start_token_id] if is_seq2seq else row
        target = torch.tensor([[*start, *new[:-1]]])
        source_ids = {"input_ids": torch.tensor([row]), "decoder_input_ids": target}
        expected.append(model(**source_ids if is_seq2seq else {"input_ids": target}).logits[0, -num_new:])
    yield difference_check(f"logits, {source}", torch.stack(expected), logits, TOLERANCE)
    with plain_generation(model):
        ours = [generated(model, row, num_new) for row in rows]
    yield tokens_check(f"greedy tokens, {source}", ours, [until_end(new, end_tokens(model)) for new in tokens])


def decoder_steps(model: Any, folder: Path, rows: Rows, num_new: int) -> tuple[list[list[int]], torch.Tensor]:
    """Greedy tokens of a batch, searched in ONNX Runtime with a cache, and their logits (B, num_new, V)."""
    run = runner(folder / "model.onnx")
    input_ids, mask = padded(model, rows, on_left=True)
    past = {name: empty_past(model.config, len(rows), 0) for name in past_names(model.config.num_hidden_layers)}
    steps = []
    for _ in range(num_new):
        outputs = run({"input_ids": input_ids, "attention_mask": mask} | past)
        past = past_of(outputs)
        steps.append(outputs["logits"][:, -1])
        input_ids = steps[-1].argmax(-1, keepdim=True)
        mask = torch.cat((mask, torch.ones_like(input_ids)), dim=1)
    logits = torch.stack(steps, dim=1)
    return logits.argmax(-1).tolist(), logits


def seq2seq_steps(model: Any, folder: Path, rows: Rows, num_new: int) -> tuple[list[list[int]], torch.Tensor]:
    """Greedy tokens of a batch, searched in ONNX Runtime with a cache, and their logits (B, num_new, V)."""
    encode, begin, go_on = (
        runner(folder / f"{name}.onnx") for name in ("encoder_model", "decoder_model", "decoder_with_past_model")
    )
    input_ids, mask = padded(model, rows)
    types = {"token_type_ids": torch.zeros_like(input_ids)} if model.config.type_vocab_size else {}
    states = encode({"input_ids": input_ids, "attention_mask": mask} | types)["last_hidden_state"]
    input_ids = torch.full((len(rows), 1), model.generation_config.decoder_start_token_id)
    source = {"encoder_attention_mask": mask}
    outputs = begin({"input_ids": input_ids, "encoder_hidden_states": states} | source)
    past, steps = past_of(outputs), [outputs["logits"][:, -1]]
    while len(steps) < num_new:
        outputs = go_on({"input_ids": steps[-1].argmax(-1, keepdim=True)} | source | past)
        past |= past_of(outputs)
        steps.append(outputs["logits"][:, -1])
    logits = torch.stack(steps, dim=1)
    return logits.argmax(-1).tolist(), logits


def past_of(outputs: Tensors) -> Tensors:
    """The cached keys and values among the outputs of a step, under their input names for the next step."""
    return {
        name.replace("present", "past_key_values"): tensor
        for name, tensor in outputs.items()
        if name.startswith("present")
    }


def runner(file: Path) -> Callable[[Tensors], Tensors]:
    """Loads an ONNX file and returns a function from its named inputs to its named outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options)
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Tensors) -> Tensors:
        arrays = session.run(names, {name: tensor.numpy() for name, tensor in inputs.items()})
        return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}

    return run
