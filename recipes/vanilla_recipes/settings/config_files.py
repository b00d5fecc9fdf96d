"""Reads an experiment from YAML and `key=value` overrides, reports all errors together, and writes experiments."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

import jsonargparse
import yaml

from vanilla_recipes.errors import UserError
from vanilla_recipes.folders import write_text
from vanilla_recipes.packaged import RENAMED, current_name, packaged_configs
from vanilla_recipes.settings.config_values import OverrideText, convert, describe, shown
from vanilla_recipes.settings.durations import Duration
from vanilla_recipes.settings.experiment import Experiment

ExperimentT = TypeVar("ExperimentT", bound=Experiment)


class Setting(NamedTuple):
    """A value as the user wrote it, and its origin: `file:line` or `command line`."""

    value: Any
    origin: str


def load_experiment(cls: type[ExperimentT], config: str, overrides: Sequence[str] = ()) -> ExperimentT:
    """Reads a packaged configuration (`translation/toy`) or a YAML file, then applies the overrides.

    Raises:
        UserError: If the configuration does not exist, is not valid YAML, or breaks rules. One error lists all broken
            rules.
    """
    types = leaf_types(cls)
    settings, faults = _read_yaml(config, types)
    given, override_faults = _read_overrides(overrides, types)
    settings |= given
    values, type_faults = _check_types(settings, types)
    experiment, rule_faults = _assemble(cls, values, settings)
    faults += override_faults + type_faults + rule_faults
    if faults:
        raise UserError(_report(config, faults))
    return experiment if experiment.output_dir else _with_default_folder(experiment, config)


def write_experiment(experiment: Experiment, path: Path) -> None:
    """Writes the resolved experiment. `load_experiment` reads an equal experiment from the file.

    Raises:
        UserError: If the disk is full or not writable.
    """
    text = yaml.safe_dump(to_plain(experiment), sort_keys=False, allow_unicode=True)
    command = f"vanilla train {experiment.output_path / 'config.yaml'} resume=always"
    write_text(path, f"# In the folder that this run was started from, continue it with: {command}\n{text}")


def to_plain(section: Any) -> Any:
    """Converts a section, or a value of a section, into types that YAML can represent."""
    if isinstance(section, Duration):
        return str(section)
    if dataclasses.is_dataclass(section) and not isinstance(section, type):
        return {field.name: to_plain(getattr(section, field.name)) for field in dataclasses.fields(section)}
    if isinstance(section, dict):
        return {key: to_plain(value) for key, value in section.items()}
    return [to_plain(value) for value in section] if isinstance(section, (list, tuple)) else section


def differences(first: Experiment, second: Experiment, ignored: Sequence[str] = ()) -> dict[str, tuple[Any, Any]]:
    """The dotted keys that differ between two experiments, with both values.

    Args:
        first: gives the first value of each pair.
        second: gives the second value of each pair.
        ignored: keys or sections to leave out. Ignoring a section leaves out all keys below it.
    """
    ours, theirs = dict(_flatten(to_plain(first))), dict(_flatten(to_plain(second)))
    return {
        key: (ours.get(key), theirs.get(key))
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key) and not any(key == name or key.startswith(f"{name}.") for name in ignored)
    }


def leaf_types(cls: type, prefix: str = "") -> dict[str, Any]:
    """The type of every dotted key that an experiment class accepts."""
    hints = get_type_hints(cls)
    types: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        key, hint = prefix + field.name, hints[field.name]
        if issubclass(cls, Experiment) and key == "model":
            types |= {f"model.{name}": kind for name, kind in cls.model_keys().items()}
        elif dataclasses.is_dataclass(hint) and hint is not Duration:
            types |= leaf_types(hint, f"{key}.")  # type: ignore[arg-type]
        else:
            types[key] = hint
    return types


def _flatten(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


# Reading


def _config_text(config: str) -> str:
    names, path = packaged_configs(), Path(config)
    if current_name(config) in names:
        return names[current_name(config)].read_text(encoding="utf-8")
    if path.suffix not in (".yaml", ".yml"):
        near = difflib.get_close_matches(config, names, n=1)
        hint = f"did you mean {near[0]}?" if near else "`vanilla configs` lists the configurations"
        raise UserError(f"{config}: there is no configuration of this name, and it is not a .yaml file; {hint}")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"{config}: the configuration cannot be read: {reason}") from error


def _read_yaml(config: str, types: Mapping[str, Any]) -> tuple[dict[str, Setting], list[str]]:
    loader = yaml.SafeLoader(_config_text(config))
    try:
        root = loader.get_single_node()
        settings, faults = _NodeReader(loader, Path(config).name, types).read(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{config}:{line}: this is not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{config}: this is not valid YAML: {str(error).splitlines()[0]}") from error
    finally:
        loader.dispose()
    return settings, faults


class _NodeReader:
    """Reads the settings from YAML nodes, not from the parsed values, because nodes have line numbers for errors."""

    def __init__(self, loader: yaml.SafeLoader, file: str, types: Mapping[str, Any]) -> None:
        self.loader, self.file, self.types = loader, file, types
        self.settings: dict[str, Setting] = {}
        self.faults: list[str] = []
        self.sections: set[str] = set()

    def read(self, root: yaml.Node | None) -> tuple[dict[str, Setting], list[str]]:
        if root is not None:
            self._section(root, "")
        return self.settings, self.faults

    def _section(self, node: yaml.Node, prefix: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            if node.tag != "tag:yaml.org,2002:null":  # an empty section takes the defaults
                name = prefix.removesuffix(".") or "the file"
                self.faults.append(f"{name} ({self._origin(node)}): must hold `key: value` lines")
            return
        self.loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            self._entry(prefix + str(key_node.value), value_node, self._origin(key_node))

    def _entry(self, key: str, node: yaml.Node, origin: str) -> None:
        if key in self.settings or key in self.sections:
            self.faults.append(f"{key} ({origin}): is given twice")
        elif key in self.types:
            self.settings[key] = Setting(self.loader.construct_object(node, deep=True), origin)
        elif any(known.startswith(f"{key}.") for known in self.types):
            self.sections.add(key)
            self._section(node, f"{key}.")
        else:
            self.faults.append(_unknown(key, origin, self.types))

    def _origin(self, node: yaml.Node) -> str:
        return f"{self.file}:{node.start_mark.line + 1}"


def _read_overrides(overrides: Sequence[str], types: Mapping[str, Any]) -> tuple[dict[str, Setting], list[str]]:
    settings: dict[str, Setting] = {}
    faults = []
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.removeprefix("--")
        if not equals:
            faults.append(f"{override} (command line): must read key=value")
        elif key in types:
            settings[key] = Setting(OverrideText(text), "command line")
        else:
            faults.append(_unknown(key, "command line", types))
    return settings, faults


def _unknown(key: str, origin: str, types: Mapping[str, Any]) -> str:
    within = [f"{name}=..." for name in types if name.startswith(f"{key}.")]
    if within:
        return f"{key} ({origin}): is a section, not a value; set its keys one by one: {', '.join(within)}"
    section = key.rpartition(".")[0]
    near = _nearest(key, types)
    if near:
        return f"{key} ({origin}): there is no such key; did you mean {near}?"
    known = [name for name in types if section and name.startswith(f"{section}.")]
    known = known or list(dict.fromkeys(name.partition(".")[0] for name in types))
    return f"{key} ({origin}): there is no such key; there are {', '.join(known)}"


def _nearest(key: str, types: Mapping[str, Any]) -> str | None:
    """The known key that the user probably meant, or None.

    Tried in this order: the same name in any section; a similar name in the same section; a similar name in a section
    with a similar name; a similar name in any section.
    """
    section, _, last = key.rpartition(".")
    anywhere = {name.rpartition(".")[2]: name for name in reversed(list(types))}
    if last in anywhere:
        return anywhere[last]
    sections = {name.rpartition(".")[0] for name in types} - {""}
    for place in [section, *difflib.get_close_matches(section, sections)]:
        names = {name.rpartition(".")[2]: name for name in [*types, *sections] if name.rpartition(".")[0] == place}
        near = difflib.get_close_matches(last, names, n=1)
        if near:
            return names[near[0]]
    return next((anywhere[name] for name in difflib.get_close_matches(last, anywhere, n=1)), None)


# Checking


def _check_types(settings: Mapping[str, Setting], types: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    values, faults = {}, []
    for key, setting in settings.items():
        try:
            values[key] = convert(types[key], setting.value)
        except UserError as error:
            faults.append(f"{key} ({setting.origin}): {error}")
        except (jsonargparse.ArgumentError, ValueError, TypeError):
            faults.append(f"{key}={shown(setting.value)} ({setting.origin}): must be {describe(types[key])}")
    return values, faults


def _assemble(
    cls: type[ExperimentT], values: Mapping[str, Any], settings: Mapping[str, Setting]
) -> tuple[ExperimentT, list[str]]:
    """Builds the experiment and lists the rules it breaks. A setting that is not in `values` gets its default value."""
    faults: list[str] = []
    experiment = _build(cls, "", values, settings, faults)
    return experiment, faults


def _build(
    cls: type, prefix: str, values: Mapping[str, Any], settings: Mapping[str, Setting], faults: list[str]
) -> Any:
    hints = get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        key, hint = prefix + field.name, hints[field.name]
        if dataclasses.is_dataclass(hint) and hint is not Duration:
            arguments[field.name] = _build(hint, f"{key}.", values, settings, faults)  # type: ignore[arg-type]
        elif key == "model":
            arguments[field.name] = {k.removeprefix("model."): v for k, v in values.items() if k.startswith("model.")}
        elif key in values:
            arguments[field.name] = values[key]
    try:
        section = cls(**arguments)
    except UserError as error:  # a section may check its values in __post_init__
        faults.append(f"{prefix.removesuffix('.')}: {error}")
        return cls()
    for name, rule in getattr(section, "problems", tuple)():
        faults.append(_rule_fault(prefix + name, section, name, rule, settings))
    return section


def _rule_fault(key: str, section: Any, name: str, rule: str, settings: Mapping[str, Setting]) -> str:
    value = section
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part)
    origin = settings[key].origin if key in settings else "default"
    return f"{key}={shown(to_plain(value))} ({origin}): {rule}"


def _report(config: str, faults: Sequence[str]) -> str:
    # If the file is for another recipe, all keys that only the other recipe has are also errors. Only the cause is
    # reported.
    faults = [fault for fault in faults if fault.startswith("recipe=")] or faults
    if len(faults) == 1:
        return f"{config}: {faults[0]}"
    return "\n  ".join([f"{config}: {len(faults)} settings are wrong:", *faults])


def _with_default_folder(experiment: ExperimentT, config: str) -> ExperimentT:
    given = config.partition("/")[0]
    recipe = given if given in RENAMED else experiment.recipe  # an old name keeps its run folder, so runs can resume
    return dataclasses.replace(experiment, output_dir=f"runs/{recipe}-{Path(config).stem}")
