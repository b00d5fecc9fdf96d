"""Tokenizers trained from the rows, in the files that `AutoTokenizer` reads back without any code.

| trainer | model | special tokens, from id 0 | post-processing | pads, truncates |
| --- | --- | --- | --- | --- |
| `train_translation_tokenizer` | BPE, else bytes | `<pad> <unk> <s> </s>` | `A </s>` | right |
| `train_encoder_tokenizer` | WordPiece | `[PAD] [UNK] [CLS] [SEP] [MASK]` | `[CLS] A [SEP] B [SEP]` | right |
| `train_decoder_tokenizer` | byte-level BPE | `<|endoftext|> <|pad|>` | none | left |
| `character_tokenizer` | characters | `<|endoftext|> <|pad|> <unk>` | none | left |

A decoder continues the end of its text, so a batch of prompts is padded on the left, and a prompt that is too long
loses its beginning. Pre-training joins texts and cuts blocks: it truncates nothing.

The same texts give the same files, on every run. `decode(ids, skip_special_tokens=True)` gives the text back: exactly
for the decoder's tokenizers, in Unicode normal form C for the translation tokenizer. WordPiece keeps the words and
loses case (where asked) and spacing, as BERT's does.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from vanilla_recipes.errors import UserError
from vanilla_recipes.hub import hub_or_cache
from vanilla_recipes.models.model_folder import TOKENIZER_FILES, check_hub_name, load_tokenizer

SPACE = "\u2581"
"""Stands for a space inside tokens, as SentencePiece has it."""

LITERAL_SPACE_MARK = "\ufdd0"
"""Stands for a U+2581 of the text itself: a noncharacter, which no exchanged text contains."""

BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))

# A word, one digit or one other character, each with the space before it; further spaces stand alone.
TRANSLATION_PIECES = rf"{SPACE}?(?:[\p{{L}}\p{{M}}]+|\p{{N}}|[^\p{{L}}\p{{M}}\p{{N}}{SPACE}])|{SPACE}"

# A merge of a pair seen once would only store that one text.
MIN_PAIR_COUNT = 2


def train_translation_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """A BPE vocabulary shared by both languages; every input and target ends in `</s>`.

    Punctuation and digits are tokens of their own. A character that the training texts lack is written as its UTF-8
    bytes, so nothing becomes `<unk>`. The names of special tokens inside a text are read as ordinary characters: no
    sentence can end itself.

    Args:
        texts: sentences of both languages.
        vocab_size: tokens at most, special tokens and 256 bytes included; fewer when the texts have fewer merges.
        max_length: tokens to which `truncation=True` cuts, `</s>` included.

    Raises:
        UserError: `vocab_size` does not hold the characters of the texts.
    """
    special_tokens = ["<pad>", "<unk>", "<s>", "</s>"]
    backend = _translation_backend()
    trainer = trainers.BpeTrainer(
        # A negative size would overflow in Rust; the check below tells the user.
        vocab_size=max(vocab_size - len(BYTE_TOKENS), 0),
        min_frequency=MIN_PAIR_COUNT,
        special_tokens=special_tokens,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.model = _with_byte_fallback(backend, special_tokens)
    _check_vocab_size(backend, vocab_size)
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", special_tokens.index("</s>"))]
    )
    return _wrap(
        backend,
        max_length,
        side="right",
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        split_special_tokens=True,
    )


def train_encoder_tokenizer(
    texts: Iterable[str], vocab_size: int, max_length: int, lowercase: bool = True
) -> PreTrainedTokenizerFast:
    """BERT's WordPiece: `[CLS] A [SEP] B [SEP]` with token types 0 and 1.

    Args:
        texts: the training texts.
        vocab_size: tokens at most, special tokens included; fewer when the texts have fewer merges.
        max_length: tokens to which `truncation=True` cuts, special tokens included.
        lowercase: lower the case and drop the accents, as the uncased BERT does.

    Raises:
        UserError: `vocab_size` does not hold the characters of the texts.
    """
    special_tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    vocab = _train_word_pieces(backend, list(texts), vocab_size, special_tokens)
    backend.model = models.WordPiece(vocab, unk_token="[UNK]")
    _check_vocab_size(backend, vocab_size)
    # cleanup=True would rewrite the text (" do not" becomes " don't").
    backend.decoder = decoders.WordPiece(cleanup=False)
    backend.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    return _wrap(
        backend,
        max_length,
        side="right",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def train_decoder_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """GPT-2's byte-level BPE, with a padding token of its own, so that padding never hides an end of text.

    Args:
        texts: the training texts.
        vocab_size: tokens at most, special tokens and 256 bytes included; fewer when the texts have fewer merges.
        max_length: tokens to which `truncation=True` cuts.

    Raises:
        UserError: `vocab_size` does not hold the 256 bytes and the special tokens.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocab_size, 0),
        min_frequency=MIN_PAIR_COUNT,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    _check_vocab_size(backend, vocab_size)
    backend.decoder = decoders.ByteLevel()
    return _wrap_decoder(backend, max_length)


def character_tokenizer(texts: Iterable[str], max_length: int) -> PreTrainedTokenizerFast:
    """One id for every distinct character of `texts`, in code point order; any other character is `<unk>`.

    Args:
        texts: all texts whose characters shall have an id.
        max_length: characters to which `truncation=True` cuts.
    """
    special_tokens = ["<|endoftext|>", "<|pad|>", "<unk>"]
    characters = sorted(set().union(*texts))
    vocab = {token: index for index, token in enumerate([*special_tokens, *characters])}
    backend = Tokenizer(models.BPE(vocab, merges=[], unk_token="<unk>"))
    backend.decoder = decoders.Fuse()
    return _wrap_decoder(backend, max_length, unk_token="<unk>")


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Write the files that `AutoTokenizer.from_pretrained(folder)` reads.

    The truncation and padding of the last call are not written (`save_pretrained` alone writes them): readers of
    tokenizer.json outside transformers would cut and pad every text.
    """
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def model_saver(tokenizer: PreTrainedTokenizerFast) -> Callable[[PreTrainedModel, Path], None]:
    """What writes a model and this tokenizer into a folder, as one that `from_pretrained` loads."""

    def save(model: PreTrainedModel, folder: Path) -> None:
        model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)

    return save


def saved_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer in a folder or on the Hub, which `tokenizer.name` names.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        if Path(name).is_file():
            raise UserError(f"{name}: this is a file; name the folder that holds {' and '.join(TOKENIZER_FILES)}")
        if Path(name).exists():
            return load_tokenizer(name)
        check_hub_name(name)
        with hub_or_cache() as hub_fault:
            return load_tokenizer(name, hub_fault)
    except UserError as error:
        raise UserError(f"tokenizer.name={error}") from error


def _translation_backend() -> Tokenizer:
    """How the translation tokenizer cuts a text into pieces and joins them again; no vocabulary yet."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(SPACE, LITERAL_SPACE_MARK),
            # Not pre_tokenizers.Metaspace: it adds no mark to a text that begins with a space, and loses that space.
            normalizers.Prepend(SPACE),
            normalizers.Replace(" ", SPACE),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(TRANSLATION_PIECES), behavior="isolated")
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
            decoders.Replace(LITERAL_SPACE_MARK, SPACE),
        ]
    )
    return backend


def _with_byte_fallback(backend: Tokenizer, special_tokens: list[str]) -> models.BPE:
    """The trained model with the 256 byte tokens behind the special ones.

    Given to the trainer, they would become special tokens, which decoding drops.
    """
    trained = json.loads(backend.to_str())["model"]
    pieces = [
        piece for piece in sorted(trained["vocab"], key=trained["vocab"].__getitem__) if piece not in special_tokens
    ]
    vocab = {token: index for index, token in enumerate([*special_tokens, *BYTE_TOKENS, *pieces])}
    merges = [tuple(merge) for merge in trained["merges"]]
    return models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True)


def _train_word_pieces(
    backend: Tokenizer, texts: list[str], vocab_size: int, special_tokens: list[str]
) -> dict[str, int]:
    """Train on `texts`; the vocabulary, the same one each time.

    The trainer numbers the pieces `##x` in the order of a hash map, and breaks ties by number (tokenizers 0.23). With
    every character given to it in advance there is nothing left to number.
    """
    characters = sorted(set().union(*map(backend.normalizer.normalize_str, texts)) - {" "})
    trainer = trainers.WordPieceTrainer(
        vocab_size=max(vocab_size, 0),
        min_frequency=MIN_PAIR_COUNT,
        special_tokens=[*special_tokens, *characters, *(f"##{character}" for character in characters)],
        show_progress=False,
    )
    scratch = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    scratch.normalizer, scratch.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    scratch.train_from_iterator(texts, trainer)
    return scratch.get_vocab()


def _check_vocab_size(backend: Tokenizer, vocab_size: int) -> None:
    needed = backend.get_vocab_size()
    if needed > vocab_size:
        raise UserError(
            f"tokenizer.vocab_size={vocab_size} is too small: the special tokens and the characters of the training"
            f" texts alone take {needed}. Give at least {needed}, better several times as many"
        )


def _wrap_decoder(backend: Tokenizer, max_length: int, **special_tokens: str) -> PreTrainedTokenizerFast:
    return _wrap(
        backend,
        max_length,
        side="left",
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        **special_tokens,
    )


def _wrap(backend: Tokenizer, max_length: int, side: str, **settings: Any) -> PreTrainedTokenizerFast:
    """The transformers tokenizer, which pads and truncates on `side`."""
    settings.setdefault("model_input_names", ["input_ids", "attention_mask"])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        padding_side=side,
        truncation_side=side,
        clean_up_tokenization_spaces=False,
        **settings,
    )
