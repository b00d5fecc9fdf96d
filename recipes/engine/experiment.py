"""The typed description of a run. A recipe adds its own sections in a subclass of `Experiment`."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from vanilla_transformers.recipes.engine.durations import Duration

Problem = tuple[str, str]  # a field of the section and the rule that its value breaks


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW.

    Attributes:
        learning_rate: the peak of the schedule; None takes the peak of the 2017 paper, which needs `inverse_sqrt`.
        max_grad_norm: gradients are scaled down to this norm; None leaves them as they are.
    """

    learning_rate: float | None = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0

    def problems(self) -> Iterator[Problem]:
        if self.learning_rate is not None and not self.learning_rate > 0:
            yield "learning_rate", "must be greater than 0, or null for the paper's"
        if not all(0 <= beta < 1 for beta in self.betas):
            yield "betas", "must both be at least 0 and less than 1"
        if not self.eps > 0:
            yield "eps", "must be greater than 0"
        if not self.weight_decay >= 0:
            yield "weight_decay", "must be 0 or greater"
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            yield "max_grad_norm", "must be greater than 0, or null for no clipping"


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves over a run.

    Attributes:
        name: what follows the warm-up.
        warmup: the learning rate rises linearly over it; null begins at the peak.
        scale: multiplies the paper's peak, used when `optimizer.learning_rate` is null.
        min_factor: `linear` and `cosine` end at this part of the peak.
    """

    name: Literal["inverse_sqrt", "cosine", "linear", "constant"] = "inverse_sqrt"
    warmup: Duration | None = field(default=Duration(4000, "steps"))
    scale: float = 1.0
    min_factor: float = 0.0

    def problems(self) -> Iterator[Problem]:
        if self.name == "inverse_sqrt" and self.warmup is None:
            yield "warmup", "must be a duration for the inverse_sqrt schedule, such as `4000 steps`"
        if not self.scale > 0:
            yield "scale", "must be greater than 0"
        if not 0 <= self.min_factor <= 1:
            yield "min_factor", "must be between 0 and 1"


@dataclass(frozen=True)
class BatchConfig:
    """The batch of one optimizer step.

    Attributes:
        tokens: the most tokens that it may have after padding, all processes and micro-batches together.
        micro_batches: the parts into which each process cuts its share to save memory; the gradient stays the same.
    """

    tokens: int = 4096
    micro_batches: int = 1

    def problems(self) -> Iterator[Problem]:
        for name in ("tokens", "micro_batches"):
            if getattr(self, name) < 1:
                yield name, "must be 1 or greater"


@dataclass(frozen=True)
class CheckpointConfig:
    """When the state of a run is saved, and how many of these checkpoints stay; `every: null` saves none."""

    every: Duration | None = field(default=Duration(1000, "steps"))
    keep: int = 2

    def problems(self) -> Iterator[Problem]:
        if self.keep < 1:
            yield "keep", "must be 1 or greater; `checkpoint.every=null` saves no checkpoints"


@dataclass(frozen=True)
class EvaluationConfig:
    """When the model is scored on the validation rows; `every: null` scores it at the end only.

    Attributes:
        max_rows: the first so many validation rows count; null takes all.
        batch_tokens: padded tokens of an evaluation batch.
    """

    every: Duration | None = field(default=Duration(1, "epochs"))
    max_rows: int | None = None
    batch_tokens: int = 8192

    def problems(self) -> Iterator[Problem]:
        if self.max_rows is not None and self.max_rows < 1:
            yield "max_rows", "must be 1 or greater, or null for all rows"
        if self.batch_tokens < 1:
            yield "batch_tokens", "must be 1 or greater"


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run. Read with `config_files.load_experiment`, which checks it.

    Attributes:
        recipe: the recipe that the file is for.
        output_dir: the run folder; `runs/<recipe>-<config>` unless given.
        resume: `never` starts anew and refuses a folder that holds a run; `if_available` continues a run that is there,
            refuses one that is over or whose checkpoints are damaged; `always` refuses to start anew.
        attention: the attention kernel, a name that transformers knows (eager, sdpa, flash_attention_2, ...); `auto` is
            sdpa, but eager on a CPU, where sdpa's backward pass makes a step of sentences half as long again.
        model: `pretrained`, a saved model to start from, and any field of the model's config.
        log_every: how often the loss is read from the device, shown and written to `metrics.jsonl`.
    """

    recipe: str = ""
    output_dir: str = ""
    seed: int = 1
    max_duration: Duration = field(default=Duration(10, "epochs"))
    resume: Literal["never", "if_available", "always"] = "never"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    attention: str = "auto"
    log_every: Duration = field(default=Duration(20, "steps"))
    model: dict[str, Any] = field(default_factory=dict)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @classmethod
    def model_keys(cls) -> dict[str, Any]:
        """The keys that `model:` takes, with their types. A recipe adds the fields of its model's config."""
        return {"pretrained": str | None}

    def problems(self) -> Iterator[Problem]:
        """The rules that this section's values break; every section has this method."""
        expected = next(f.default for f in fields(self) if f.name == "recipe")
        if self.recipe != expected:
            yield "recipe", f"must be {expected}: the file belongs to another recipe"
        if not 0 <= self.seed < 2**32:
            yield "seed", "must be between 0 and 4294967295"
        if self.optimizer.learning_rate is None and not self._knows_paper_peak():
            yield "optimizer.learning_rate", "may be null only with schedule.name=inverse_sqrt and a warm-up in steps"

    @property
    def output_path(self) -> Path:
        """The run folder."""
        return Path(self.output_dir).expanduser()

    @property
    def pretrained(self) -> str | None:
        """The saved model to start from, if any."""
        return self.model.get("pretrained")

    @property
    def model_settings(self) -> dict[str, Any]:
        """The fields of the model's config that this experiment sets."""
        return {name: value for name, value in self.model.items() if name != "pretrained"}

    def _knows_paper_peak(self) -> bool:
        warmup = self.schedule.warmup
        return self.schedule.name == "inverse_sqrt" and warmup is not None and warmup.unit == "steps"
