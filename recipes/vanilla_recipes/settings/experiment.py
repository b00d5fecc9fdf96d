"""The typed description of a run. A recipe adds its own sections in a subclass of `Experiment`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from vanilla_recipes.packaged import current_name
from vanilla_recipes.settings.durations import Duration

Problem = tuple[str, str]  # a field of the section and the rule that its value breaks

TRACKERS = ("tensorboard", "trackio", "wandb")


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
        min_factor: `linear`, `cosine` and `warmup_stable_decay` end at this part of the peak.
        decay: how long `warmup_stable_decay` falls linearly at the end: a duration in the unit of `max_duration`, or a
            share of it.
    """

    name: Literal["inverse_sqrt", "cosine", "linear", "constant", "warmup_stable_decay"] = "inverse_sqrt"
    warmup: Duration | None = field(default=Duration(4000, "steps"))
    scale: float = 1.0
    min_factor: float = 0.0
    decay: Duration | float = 0.2

    def problems(self) -> Iterator[Problem]:
        if self.name == "inverse_sqrt" and self.warmup is None:
            yield "warmup", "must be a duration for the inverse_sqrt schedule, such as `4000 steps`"
        if not self.scale > 0:
            yield "scale", "must be greater than 0"
        if not 0 <= self.min_factor <= 1:
            yield "min_factor", "must be between 0 and 1"
        if isinstance(self.decay, float) and not 0 < self.decay <= 1:
            yield "decay", "must be a share above 0 and up to 1, or a duration such as `2k steps`"


@dataclass(frozen=True)
class BatchConfig:
    """The batch of one optimizer step.

    Attributes:
        tokens: the most tokens that it may have after padding, all processes and micro-batches together; packed, the
            most real tokens.
        groups: a batch is made of so many groups of rows, each of `tokens` / `groups` tokens at most. Rows of a group
            have similar lengths and are padded to the longest of them, so that a batch of several groups has rows of
            several lengths: more is learnt from each token, and fewer tokens are padding. On a CPU, threads compute
            groups side by side.
        micro_batches: the parts into which each process cuts its share of a group to save memory; the gradient stays
            the same. `auto` finds the smallest number, doubling from 1, with which the largest batches fit into memory.
        packing: rows follow one another in lines instead of being padded; the gradients are the same. It saves the most
            where lengths differ a lot and batches are small, and with kernels that do not compute what is masked.
        pack_length: the most tokens of a line on a side, such as 4 times the longest row; null lays all rows of a
            micro-batch into one line, which is best for kernels whose work does not grow with the square of its length,
            such as torch_varlen.
    """

    tokens: int = 4096
    groups: int = 1
    micro_batches: int | Literal["auto"] = 1
    packing: bool = False
    pack_length: int | None = None

    def problems(self) -> Iterator[Problem]:
        if self.tokens < 1:
            yield "tokens", "must be 1 or greater"
        if not 1 <= self.groups <= max(1, self.tokens):
            yield "groups", "must be 1 or greater, and no more than batch.tokens"
        if self.micro_batches != "auto" and self.micro_batches < 1:
            yield "micro_batches", "must be 1 or greater, or auto"
        if self.pack_length is not None and self.pack_length < 1:
            yield "pack_length", "must be 1 or greater, or null for a single line"
        if self.pack_length is not None and not self.packing:
            yield "pack_length", "is that of packed lines: set batch.packing=true, or leave it out"


@dataclass(frozen=True)
class CheckpointConfig:
    """When the state of a run is saved, and how many of these checkpoints stay; `every: null` saves none.

    Attributes:
        keep: the newest so many stay.
        max_gb: the oldest go as soon as all of them take more than so many gigabytes (10^9 bytes); the newest stays.
    """

    every: Duration | None = field(default=Duration(1000, "steps"))
    keep: int = 2
    max_gb: float | None = None

    def problems(self) -> Iterator[Problem]:
        if self.keep < 1:
            yield "keep", "must be 1 or greater; `checkpoint.every=null` saves no checkpoints"
        if self.max_gb is not None and not self.max_gb > 0:
            yield "max_gb", "must be greater than 0, or null for no bound"


@dataclass(frozen=True)
class AveragingConfig:
    """Averaged weights, which are scored and saved instead of those of the last step; `final_raw/` keeps the latter.

    Attributes:
        ema_decay: an exponential moving average over the steps: after step t the average keeps the part
            min(ema_decay, (1 + t) / (10 + t)) of itself, so that the first steps do not weigh on it.
        checkpoints: at the end, the mean of the last weights and of the scheduled checkpoints before them, so many in
            all, as in section 6.1 of the 2017 paper (5 for its base model, 20 for the big one).
    """

    ema_decay: float | None = None
    checkpoints: int | None = None

    def problems(self) -> Iterator[Problem]:
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            yield "ema_decay", "must be greater than 0 and less than 1, such as 0.999, or null for none"
        if self.checkpoints is not None and self.checkpoints < 2:
            yield "checkpoints", "must be 2 or greater, or null for none"
        if self.ema_decay is not None and self.checkpoints is not None:
            yield "checkpoints", "cannot be averaged beside a moving average: set one of the two to null"


@dataclass(frozen=True)
class EvaluationConfig:
    """When the model is scored on the validation rows; `every: null` scores it at the end only.

    Attributes:
        max_rows: the first so many validation rows count; null takes all.
        batch_tokens: padded tokens of an evaluation batch.
        patience: the run ends early after so many evaluations in a row without a better score; null never does.
        min_delta: a score that is better by no more than this does not count as better for `patience`.
    """

    every: Duration | None = field(default=Duration(1, "epochs"))
    max_rows: int | None = None
    batch_tokens: int = 8192
    patience: int | None = None
    min_delta: float = 0.0

    def problems(self) -> Iterator[Problem]:
        if self.patience is not None and self.patience < 1:
            yield "patience", "must be 1 or greater, or null to train until max_duration"
        if self.patience is not None and self.every is None:
            yield "patience", "counts evaluations, but evaluation.every=null makes none before the end"
        if not 0 <= self.min_delta < math.inf:
            yield "min_delta", "must be 0 or greater"
        if self.max_rows is not None and self.max_rows < 1:
            yield "max_rows", "must be 1 or greater, or null for all rows"
        if self.batch_tokens < 1:
            yield "batch_tokens", "must be 1 or greater"


@dataclass(frozen=True)
class TrackingConfig:
    """Where the figures of a run go beside `metrics.jsonl` and `curves.png`, which are always written.

    Attributes:
        trackers: some of tensorboard, trackio and wandb; each is an extra of the package.
        project: what trackio and wandb gather the run under.
        run_name: its name there; null takes that of the run folder.
        peak_tflops: the peak of one device in TFLOP/s, of which the model FLOPs utilization is a share; null knows the
            common GPUs and leaves the utilization out elsewhere; `measured` times a matrix product at the start.
    """

    trackers: list[str] = field(default_factory=list)
    project: str = "vanilla_transformers"
    run_name: str | None = None
    peak_tflops: float | Literal["measured"] | None = None

    def problems(self) -> Iterator[Problem]:
        if not set(self.trackers) <= set(TRACKERS):
            yield "trackers", f"may hold {', '.join(TRACKERS[:-1])} and {TRACKERS[-1]}"
        if len(self.trackers) > len(set(self.trackers)):
            yield "trackers", "must name each tracker once"
        if not self.project:
            yield "project", "must not be empty"
        if isinstance(self.peak_tflops, float) and not 0 < self.peak_tflops < math.inf:
            yield "peak_tflops", "must be greater than 0, or null, or measured"


@dataclass(frozen=True)
class AdapterConfig:
    """Low-rank adapters (LoRA), which learn in place of the weights of a saved model.

    Attributes:
        r: the rank of the adapters; null trains all weights.
        alpha: what the adapters add to a layer is scaled by alpha / r.
        dropout: the probability of each number at the entrance of an adapter to be dropped.
        target_modules: the names of the layers that are adapted; null takes all linear layers of attention and
            feed-forward: q_proj, k_proj, v_proj, o_proj, up_proj and down_proj, or what a stock model calls them.
    """

    r: int | None = None
    alpha: int = 16
    dropout: float = 0.0
    target_modules: list[str] | None = None

    def problems(self) -> Iterator[Problem]:
        if self.r is not None and self.r < 1:
            yield "r", "must be 1 or greater, or null to train all weights"
        if self.alpha < 1:
            yield "alpha", "must be 1 or greater"
        if not 0 <= self.dropout < 1:
            yield "dropout", "must be at least 0 and less than 1"
        if self.target_modules is not None and not all(self.target_modules or [""]):
            yield "target_modules", "must name layers, or be null for all of attention and feed-forward"


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run. Read with `config_files.load_experiment`, which checks it.

    Attributes:
        recipe: the recipe that the file is for.
        output_dir: the run folder; `runs/<recipe>-<config>` unless given.
        resume: `never` starts anew and refuses a folder that holds a run; `if_available` continues a run that is there,
            refuses one that is over or whose checkpoints are damaged; `always` refuses to start anew.
        attention: the attention kernel: a name that transformers knows (eager, sdpa, flash_attention_2, ...), or
            torch_varlen, torch's own for packed rows. `auto` is the latter where rows are packed and it can run (an
            NVIDIA GPU, bf16 or fp16, no dropout on attention weights), else sdpa, but eager on a CPU, where sdpa's
            backward pass makes a step of sentences half as long again.
        max_wall_time: the run saves and stops once its process is so old, evaluation and saving included; it ends well,
            and `resume=if_available` continues it. Leave time for a step, an evaluation and the saving before the limit
            of a batch system.
        compile: the layers are compiled by torch, for training; scores come from the model as it is.
        gradient_checkpointing: layers keep their inputs only and are computed again in the backward pass: less memory,
            a third more work, the same gradients.
        process_timeout: a process that waits so long for the others gives up, and the run ends; evaluation on one
            process must not take longer.
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
    max_wall_time: Duration | None = None
    compile: bool = False
    gradient_checkpointing: bool = False
    log_every: Duration = field(default=Duration(20, "steps"))
    process_timeout: Duration = field(default=Duration(1800, "seconds"))
    model: dict[str, Any] = field(default_factory=dict)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    peft: AdapterConfig = field(default_factory=AdapterConfig)

    @classmethod
    def model_keys(cls) -> dict[str, Any]:
        """The keys that `model:` takes, with their types. A recipe adds the fields of its model's config."""
        return {"pretrained": str | None}

    def problems(self) -> Iterator[Problem]:
        """The rules that this section's values break; every section has this method."""
        expected = next(f.default for f in fields(self) if f.name == "recipe")
        if current_name(self.recipe) != expected:
            yield "recipe", f"must be {expected}: the file belongs to another recipe"
        if not 0 <= self.seed < 2**32:
            yield "seed", "must be between 0 and 4294967295"
        if self.optimizer.learning_rate is None and not self._knows_paper_peak():
            yield "optimizer.learning_rate", "may be null only with schedule.name=inverse_sqrt and a warm-up in steps"
        if self.max_wall_time is not None and self.max_wall_time.unit != "seconds":
            yield "max_wall_time", "must be in hours, minutes or seconds"
        if self.process_timeout.unit != "seconds":
            yield "process_timeout", "must be in hours, minutes or seconds"
        if self.peft.r is not None and self.pretrained is None:
            yield "peft.r", "adapts a saved model: name it with model.pretrained, or train all weights with peft.r=null"
        if self.averaging.checkpoints is not None and self.checkpoint.every is None:
            yield "averaging.checkpoints", "needs checkpoints to average, but checkpoint.every=null saves none"
        if isinstance(self.schedule.decay, Duration) and not self._can_place_decay(self.schedule.decay):
            yield "schedule.decay", f"must be a share, or a part of max_duration in its unit, {self.max_duration.unit}"

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

    def _can_place_decay(self, decay: Duration) -> bool:
        return decay.unit == self.max_duration.unit and decay.amount <= self.max_duration.amount

    def _knows_paper_peak(self) -> bool:
        warmup = self.schedule.warmup
        return self.schedule.name == "inverse_sqrt" and warmup is not None and warmup.unit == "steps"
