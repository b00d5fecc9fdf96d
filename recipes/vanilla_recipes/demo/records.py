"""Data classes of the demo: models, their tasks and their answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from vanilla_transformers.text.answers import NO_LIMIT, longest_input
from vanilla_transformers.text.languages import language_codes


class Candidate(NamedTuple):
    """One of several answers.

    Attributes:
        text: the answer.
        probability: probability of the answer, 0 to 1; None if it is not shown.
        before: the text that the answer continues.
    """

    text: str
    probability: float | None = None
    before: str = ""


class Group(NamedTuple):
    """Answers to one question, the best first, with a heading that explains their probability."""

    heading: str
    candidates: list[Candidate]


@dataclass(frozen=True)
class Found:
    """The answers of a model to a text.

    Attributes:
        groups: the answers.
        num_tokens: number of tokens read or written, from which the speed is computed.
        deed: "read" or "written": whether `num_tokens` counts tokens of the input or of the answers.
        text: text of the attention maps; the source for an encoder-decoder.
        target: target text of the attention maps of an encoder-decoder; None for other models.
    """

    groups: list[Group]
    num_tokens: int
    deed: str
    text: str
    target: str | None = None


@dataclass(frozen=True)
class Answer(Found):
    """The answers of a model with their time in seconds, and notes for the user."""

    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def speed(self) -> str:
        """The speed as text, for example `12 tokens written in 0.31 s: 39 tokens/s`."""
        tokens = f"{self.num_tokens:,} token{'s' if self.num_tokens != 1 else ''}"
        return f"{tokens} {self.deed} in {self.seconds:.3g} s: {self.num_tokens / self.seconds:,.0f} tokens/s"


@dataclass(frozen=True)
class Task:
    """A task of the page, such as translation, for one type of model.

    Attributes:
        heading: name of the task, the heading of the page.
        button: text of the button that starts it.
        label: label of the input field.
        example: example of an input text.
        answer: computes the answers to a text.
    """

    heading: str
    button: str
    label: str
    example: str
    answer: Callable[["Shown", str, Mapping[str, str]], Found]


@dataclass(frozen=True)
class Shown:
    """A model on the page.

    Attributes:
        name: name on the page.
        model: the model, in evaluation mode.
        tokenizer: its tokenizer.
        task: its task.
    """

    name: str
    model: PreTrainedModel
    tokenizer: Any
    task: Task

    @property
    def limit(self) -> int:
        """Maximum number of tokens of a text."""
        return longest_input(self.model, self.tokenizer)

    def ids(self, text: str) -> list[int]:
        """Returns the token ids of a text, without truncation."""
        return self.tokenizer(text, verbose=False)["input_ids"]

    @property
    def facts(self) -> str:
        """Size, type and limit as text, for example `10.7 M parameters, float32 on cpu; reads up to 128 tokens`."""
        model = self.model
        size = sum(parameter.numel() for parameter in model.parameters())
        number = f"{size / 1e6:,.1f} M" if size >= 1e5 else f"{size:,}"
        reads = f"; reads up to {self.limit:,} tokens" if self.limit < NO_LIMIT else ""
        return f"{number} parameters, {str(model.dtype).removeprefix('torch.')} on {model.device.type}{reads}"

    @property
    def languages(self) -> list[str]:
        """The language codes of a multilingual model, sorted; empty for other models."""
        return sorted(language_codes(self.tokenizer))
