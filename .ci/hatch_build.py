"""Puts `model_card.md` from the root of the checkout into wheels, next to the code that reads it.

hatchling's `sources` maps folders, but not a single file. Its `force-include` would also copy the file in an editable
install.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ModelCardHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard" and self.target_name == "wheel":
            build_data["force_include"]["model_card.md"] = "vanilla_recipes/model_card.md"
