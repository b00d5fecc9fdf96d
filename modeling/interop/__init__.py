"""Stock checkpoints in and out: BERT, RoBERTa, DistilBERT, GPT-2, OPT, Marian, BART, mBART, M2M100 and FSMT.

Nothing of it goes to the Hub with a model, and nothing is registered with transformers: a model that was imported is
saved under our own names and loads without this package's converters.
"""

from typing import Any

from transformers import AutoConfig, PreTrainedModel

from ..configuration_vanilla import VanillaConfig
from .checks import Check, InteropError
from .conversion import ARCHITECTURES, class_for_head, from_stock, load_stock, to_stock
from .proof import compare


def convert(
    model: PreTrainedModel | str, to: str | None = None, head: str | None = None, **kwargs: Any
) -> PreTrainedModel:
    """A stock model as one of ours or, with `to`, one of ours as a stock model; in evaluation mode and the same dtype.

        model = vanilla_transformers.convert("google-bert/bert-base-uncased")
        stock = vanilla_transformers.convert(model, to="bert")

    Args:
        model: a model, or the folder or Hub name of a stock one.
        to: the model type to export to, such as `"marian"`, `"bart"`, `"bert"` or `"gpt2"`.
        head: the task as which a stock checkpoint is loaded, such as `"base"` or `"sequence-classification"`; by
            default that of the class which its configuration names.
        kwargs: for `from_pretrained` of a stock model that is given by name.

    Raises:
        InteropError: a property of the model cannot be expressed on the other side, or a weight is missing; the line
            says which.
    """
    if isinstance(model, str):
        model = _load_stock(model, head, **kwargs)
    if to is not None:
        return to_stock(model, to)
    if isinstance(model.config, VanillaConfig):
        raise InteropError(f"this is a {model.config.model_type} already: say what it is to become (to='bert')")
    return from_stock(model)


def _load_stock(name: str, head: str | None, **kwargs: Any) -> PreTrainedModel:
    stock_class = class_for_head(AutoConfig.from_pretrained(name, **kwargs), head)
    stock, report = load_stock(stock_class, name, **kwargs)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise InteropError(
            f"{name} lacks {len(missing)} weights of a {stock_class.__name__}, for instance {missing[0]}: load it as "
            "what it was saved from (head='base')"
        )
    return stock.eval()


__all__ = ["ARCHITECTURES", "Check", "InteropError", "compare", "convert"]
