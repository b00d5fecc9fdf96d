"""What the demo shows, as data: a model, what it does, and its answer to a text."""

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
        probability: how likely the model finds it, if it says so.
        before: what it goes on from.
    """

    text: str
    probability: float | None = None
    before: str = ""


class Group(NamedTuple):
    """Answers to one question, the best first, under a heading that says what their probability is."""

    heading: str
    candidates: list[Candidate]


@dataclass(frozen=True)
class Found:
    """What a model answered, as its task gives it.

    Attributes:
        groups: the answers.
        num_tokens: how many were read or written, by which the speed is counted.
        deed: "read" or "written".
        text: what a map of the answer is made of; for an encoder-decoder its source.
        target: its target.
    """

    groups: list[Group]
    num_tokens: int
    deed: str
    text: str
    target: str | None = None


@dataclass(frozen=True)
class Answer(Found):
    """The same with how long it took, and what a reader has to know."""

    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def speed(self) -> str:
        """For example `12 tokens written in 0.31 s: 39 tokens/s`."""
        tokens = f"{self.num_tokens:,} token{'s' if self.num_tokens != 1 else ''}"
        return f"{tokens} {self.deed} in {self.seconds:.3g} s: {self.num_tokens / self.seconds:,.0f} tokens/s"


@dataclass(frozen=True)
class Task:
    """What a kind of model does.

    Attributes:
        heading: names it.
        button: what starts it.
        label: of the text that is asked for.
        example: such a text.
        answer: does it.
    """

    heading: str
    button: str
    label: str
    example: str
    answer: Callable[["Shown", str, Mapping[str, str]], Found]


@dataclass(frozen=True)
class Shown:
    """A model of the page.

    Attributes:
        name: as it is called there.
        model: in evaluation mode.
        tokenizer: its tokenizer.
        task: what it does.
    """

    name: str
    model: PreTrainedModel
    tokenizer: Any
    task: Task

    @property
    def limit(self) -> int:
        """Tokens of a text at most."""
        return longest_input(self.model, self.tokenizer)

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, uncut."""
        return self.tokenizer(text, verbose=False)["input_ids"]

    @property
    def facts(self) -> str:
        """For example `10.7 M parameters, float32 on cpu; reads up to 128 tokens`."""
        model = self.model
        size = sum(parameter.numel() for parameter in model.parameters())
        number = f"{size / 1e6:,.1f} M" if size >= 1e5 else f"{size:,}"
        reads = f"; reads up to {self.limit:,} tokens" if self.limit < NO_LIMIT else ""
        return f"{number} parameters, {str(model.dtype).removeprefix('torch.')} on {model.device.type}{reads}"

    @property
    def languages(self) -> list[str]:
        """The codes to choose from, of a multilingual model."""
        return sorted(language_codes(self.tokenizer))
