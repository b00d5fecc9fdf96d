"""Finds the model folder to publish and, if a run trained it, the run's configuration and results."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from vanilla_recipes.errors import UserError, one_line
from vanilla_recipes.models.model_files import check_folder
from vanilla_recipes.reports.plots import VALIDATION
from vanilla_recipes.run_folder.checkpoints import CONFIG, METRICS, RESULTS

Which = Literal["best", "final"]


@dataclass(frozen=True)
class Source:
    """A model folder, and the run that trained the model.

    Attributes:
        model: the folder for `from_pretrained`.
        run: the run folder; `None` for a model folder without a run.
        experiment: the resolved configuration of the run; empty without a run.
        results: content of results.json: scores by split, settings of the scoring, figures of the run.
    """

    model: Path
    run: Path | None = None
    experiment: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)


def find_source(name: str | Path, which: Which = "best") -> Source:
    """Returns the model of a finished run, or a model folder without a run.

    Args:
        name: a run folder, or a folder written by `save_pretrained`.
        which: the model of the run, "best" or "final"; ignored for a model folder.

    Raises:
        UserError: If the folder is neither a run nor a model, is damaged, or the run is not finished.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give the folder of a run, such as runs/translation-toy")
    if (folder / "config.json").is_file():
        check_folder(folder)
        return Source(folder)
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder}: it holds neither a run ({CONFIG}) nor a model (config.json); give a folder that "
            "`vanilla train` or save_pretrained() wrote"
        )
    if not (folder / RESULTS).is_file() or not (folder / which).is_dir():
        missing = RESULTS if (folder / which).is_dir() else f"{which}/"
        raise UserError(
            f"{folder}: the run is not finished ({missing} is missing); finish it with `vanilla train "
            f"{folder / CONFIG} resume=always`, or give its model folder alone: {folder / 'best'}"
        )
    check_folder(folder / which)
    results = _read(folder / RESULTS, json.loads)
    if which == "final":
        results = {name: value for name, value in results.items() if name not in ("test", "validation", "model")}
        results |= _last_scores(folder / METRICS)
    return Source(folder / which, folder, _read(folder / CONFIG, yaml.safe_load), results)


def model_type_of(source: Source) -> str:
    """Returns `model_type` of the model's config.json."""
    return str(_read(source.model / "config.json", json.loads).get("model_type"))


def _last_scores(metrics: Path) -> dict[str, Any]:
    """Returns the validation scores of the last evaluation, which scored the final model.

    The test scores of a run belong to its best model, so they are not returned.
    """
    records = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    scored = [record for record in records if any(key.startswith(VALIDATION) for key in record)]
    if not scored:
        return {}
    scores = {key.removeprefix(VALIDATION): value for key, value in scored[-1].items() if key.startswith(VALIDATION)}
    return {"validation": {"step": scored[-1]["step"], **scores}}


def _read(file: Path, parse: Any) -> dict[str, Any]:
    try:
        found = parse(file.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError, OSError) as error:
        raise UserError(f"{file}: cannot be read: {one_line(str(error))}") from error
    if not isinstance(found, dict):
        raise UserError(f"{file}: must hold settings by name; it was damaged or edited: restore it from the run")
    return found
