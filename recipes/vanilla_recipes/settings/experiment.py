"""The typed settings of a run. A recipe adds its own sections in a subclass of `Experiment`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from vanilla_recipes.packaged import current_name
from vanilla_recipes.settings.durations import Duration

Problem = tuple[str, str]  # (field of a section of the configuration, rule that the value of the field breaks)

TRACKERS = ("tensorboard", "trackio", "wandb")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and gradient clipping.

    Attributes:
        learning_rate: the peak of the schedule. null uses the peak of section 5.3 of the 2017 paper; this requires
            `schedule.name=inverse_sqrt` and a warm-up in steps.
        betas: AdamW's decay rates of the two moment estimates.
        eps: AdamW's constant in the denominator.
        weight_decay: applied to weight matrices only, not to biases, norms and embeddings.
        max_grad_norm: a gradient with a greater norm is scaled down to this norm; null does not clip gradients.
    """

    learning_rate: float | None = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0

    def problems(self) -> Iterator[Problem]:
        if self.learning_rate is not None and not self.learning_rate > 0:
            yield "learning_rate", "must be greater than 0, or null for the paper's learning rate"
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
    """The learning-rate schedule.

    Attributes:
        name: the shape of the schedule after the warm-up.
        warmup: duration of the linear warm-up; with null, training starts at the peak learning rate.
        scale: multiplies the paper's peak. Used only if `optimizer.learning_rate` is null.
        min_factor: `linear`, `cosine` and `warmup_stable_decay` end at this fraction of the peak.
        decay: length of the final linear decay of `warmup_stable_decay`: a fraction of `max_duration`, or a duration in
            the unit of `max_duration`.
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
            yield "decay", "must be a fraction of max_duration above 0 and up to 1, or a duration such as `2k steps`"


@dataclass(frozen=True)
class BatchConfig:
    """The batch of one optimizer step.

    Attributes:
        tokens: the maximum number of tokens of a batch, padding included, summed over all processes and micro-batches.
            With `packing`, padding does not count.
        groups: number of groups of rows in a batch. A group has at most `tokens` / `groups` tokens. The rows of a group
            have similar lengths and are padded to the longest row of the group. With several groups, a batch mixes rows
            of different lengths: the model learns more from each token, and fewer tokens are padding. On a CPU, threads
            compute several groups at the same time.
        micro_batches: gradient accumulation: the number of micro-batches into which each process cuts its share of a
            group. More micro-batches need less memory; the gradient stays the same. `auto` takes the smallest
            power of 2 with which the largest batches fit into memory.
        packing: concatenates several rows into one sequence, called a line, instead of padding each row. The gradients
            stay the same. Packing helps most if row lengths differ a lot, if batches are small, and with attention
            kernels that skip masked pairs.
        pack_length: the maximum number of tokens of a packed line, on each side, such as 4 times the longest row. null
            packs all rows of a micro-batch into one line. A single line is best for attention kernels whose work does
            not grow with the square of the line length, such as torch_varlen.
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
            yield "pack_length", "must be 1 or greater, or null to pack all rows into a single line"
        if self.pack_length is not None and not self.packing:
            yield "pack_length", "is the length of packed lines: set batch.packing=true, or leave pack_length out"


@dataclass(frozen=True)
class CheckpointConfig:
    """How often checkpoints are saved, and how many are kept.

    Attributes:
        every: the interval between two checkpoints; null saves none, except when the run is stopped.
        keep: number of checkpoints to keep; older checkpoints are deleted.
        max_gb: the oldest checkpoints are deleted while all checkpoints together take more than this many gigabytes
            (10^9 bytes). The newest checkpoint is always kept. null sets no bound.
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
    """Weight averaging. The averaged weights are scored and saved; `final_raw/` keeps the weights of the last step.

    Attributes:
        ema_decay: decay of an exponential moving average over the steps. The decay at step t is
            min(ema_decay, (1 + t) / (10 + t)), so that the average soon forgets the first steps.
        checkpoints: number of models in the mean that is taken at the end: the last weights and the scheduled
            checkpoints before them, as in section 6.1 of the 2017 paper (5 for the base model, 20 for the big model).
    """

    ema_decay: float | None = None
    checkpoints: int | None = None

    def problems(self) -> Iterator[Problem]:
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            yield "ema_decay", "must be greater than 0 and less than 1, such as 0.999, or null for no moving average"
        if self.checkpoints is not None and self.checkpoints < 2:
            yield "checkpoints", "must be 2 or greater, or null for no mean of checkpoints"
        if self.ema_decay is not None and self.checkpoints is not None:
            yield "checkpoints", "cannot be combined with averaging.ema_decay: set one of the two to null"


@dataclass(frozen=True)
class EvaluationConfig:
    """How often the model is scored on the validation rows, and when the run ends early.

    Attributes:
        every: the interval between two evaluations; null scores the model at the end only.
        max_rows: only the first `max_rows` validation rows are scored; null scores all.
        batch_tokens: the maximum number of tokens of an evaluation batch, padding included.
        patience: the run ends early after this many consecutive evaluations without a better score; null disables early
            stopping.
        min_delta: for `patience`, only an improvement of more than this counts as a better score.
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
            yield "patience", "counts evaluations, but evaluation.every=null scores the model only once, at the end"
        if not 0 <= self.min_delta < math.inf:
            yield "min_delta", "must be 0 or greater"
        if self.max_rows is not None and self.max_rows < 1:
            yield "max_rows", "must be 1 or greater, or null for all rows"
        if self.batch_tokens < 1:
            yield "batch_tokens", "must be 1 or greater"


@dataclass(frozen=True)
class TrackingConfig:
    """Trackers that receive the metrics of a run. `metrics.jsonl` and `curves.png` are always written.

    Attributes:
        trackers: any of tensorboard, trackio and wandb. Each tracker is an extra of the package.
        project: the project of the run in trackio and wandb.
        run_name: the name of the run in trackio and wandb; null takes the name of the run folder.
        peak_tflops: the peak of one device in TFLOP/s, to compute the model FLOPs utilization (MFU). null looks up the
            peak of common GPUs and reports no MFU for other devices. `measured` times a matrix product at the start.
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
    """Low-rank adapters (LoRA). They are trained instead of the weights of a saved model, which stay frozen.

    Attributes:
        r: the rank of the adapters; null trains all weights.
        alpha: the output of an adapter is scaled by alpha / r.
        dropout: the dropout probability of an adapter's input.
        target_modules: the names of the layers that get adapters. null takes all linear layers of attention and
            feed-forward: q_proj, k_proj, v_proj, o_proj, up_proj and down_proj, or the names that these layers have in
            transformers' own models.
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
    """All settings of a run. Read with `config_files.load_experiment`, which checks it.

    Attributes:
        recipe: the recipe that the configuration is for.
        output_dir: the run folder; `runs/<recipe>-<config>` unless given.
        seed: seed of the weights, of the batches and of dropout.
        max_duration: the run ends after this duration.
        resume: `never` starts a new run and refuses a folder that holds a run. `if_available` continues the run in the
            folder, or starts a new run if the folder holds none; it refuses a finished run without checkpoints and a
            run whose checkpoints are damaged. `always` continues the run, and refuses a folder without a
            checkpoint.
        precision: the dtype of autocast; the weights stay in fp32.
        attention: the attention kernel: a name that transformers knows (eager, sdpa, flash_attention_2, ...), or
            torch_varlen, torch's kernel for packed rows. With `auto`, packed rows use torch_varlen if it can run (an
            NVIDIA GPU, bf16 or fp16, no dropout of attention weights). Otherwise `auto` is eager on a CPU and sdpa on
            other devices: on a CPU, sdpa's backward pass makes a training step on sentences 1.5 times as long.
        max_wall_time: the run saves a checkpoint and stops once its process has run for this long, evaluation and
            saving included. The exit status is 0, and `resume=if_available` continues the run. Leave time for one step,
            one evaluation and one checkpoint before the limit of a batch system.
        compile: compiles the layers with torch.compile for training. Evaluation uses the uncompiled layers.
        gradient_checkpointing: each layer keeps only its inputs and is computed again in the backward pass. This needs
            less memory and a third more computation; the gradients stay the same.
        log_every: how often the loss is read from the device, shown and written to `metrics.jsonl`.
        process_timeout: a process that waits this long for another process gives up, and the run ends. Work of the main
            process alone, such as saving, must take less time.
        model: `pretrained` (a saved model to start from) and any field of the model's config.
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
        """The keys of the section `model`, with their types. A recipe adds the fields of its model's config."""
        return {"pretrained": str | None}

    def problems(self) -> Iterator[Problem]:
        """Yields the rules that the values of this section break. Every section has this method."""
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
            yield "schedule.decay", f"must be a fraction, or a duration in {self.max_duration.unit} up to max_duration"

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
