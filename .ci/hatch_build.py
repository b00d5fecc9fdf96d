"""Puts `model_card.md` of the checkout into wheels, beside the code that reads it.

hatchling maps folders by `sources`, but not a single file; with `force-include` an editable install would copy it too.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ModelCardHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard" and self.target_name == "wheel":
            build_data["force_include"]["model_card.md"] = "vanilla_recipes/model_card.md"
