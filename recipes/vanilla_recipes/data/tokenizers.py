"""Trains tokenizers on the training rows; `AutoTokenizer` loads their files without custom code.

| trainer | model | special tokens, from id 0 | post-processing | pads, truncates |
| --- | --- | --- | --- | --- |
| `train_translation_tokenizer` | BPE, byte fallback | `<pad> <unk> <s> </s>` | `A </s>` | right |
| `train_encoder_tokenizer` | WordPiece | `[PAD] [UNK] [CLS] [SEP] [MASK]` | `[CLS] A [SEP] B [SEP]` | right |
| `train_decoder_tokenizer` | byte-level BPE | `<|endoftext|> <|pad|>` | none | left |
| `character_tokenizer` | characters | `<|endoftext|> <|pad|> <unk>` | none | left |

A decoder continues a text at its end. So a batch of prompts is padded on the left, and a prompt that is too long loses
its beginning. Pre-training joins texts and cuts blocks: it truncates nothing.

The same texts give the same files in every run. `decode(ids, skip_special_tokens=True)` returns the text: exactly for
the decoder's tokenizers, in Unicode normalization form C (NFC) for the translation tokenizer. WordPiece keeps words in
NFC, but loses spacing. With `lowercase` it also loses case, with `strip_accents` accents, as the uncased BERT does.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from vanilla_recipes.errors import UserError
from vanilla_recipes.hub import hub_or_cache
from vanilla_recipes.models.model_files import TOKENIZER_FILES
from vanilla_recipes.models.model_folder import check_hub_name, load_tokenizer

SPACE = "\u2581"
"""The character that stands for a space inside tokens, as in SentencePiece."""

LITERAL_SPACE_MARK = "\ufdd0"
"""The character that replaces U+2581 in a text. A text does not contain it already: it is a Unicode noncharacter."""

BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))

# A piece is a word, a single digit or another single character, with at most one space before it. Further spaces are
# separate pieces.
TRANSLATION_PIECES = rf"{SPACE}?(?:[\p{{L}}\p{{M}}]+|\p{{N}}|[^\p{{L}}\p{{M}}\p{{N}}{SPACE}])|{SPACE}"

INVISIBLE = r"[[\p{Cc}\p{Cf}]&&[^\s\x{200C}\x{200D}]]"
"""Control and format characters, which BERT's tokenizer removes. Unlike there, the two joiners stay: in Persian, Hindi
or Sinhala they change a word."""

LONGEST_WORD = 100
"""Number of characters of a word that WordPiece encodes as a unit. A longer word would be one unknown token."""

# Minimum number of occurrences of a pair of tokens that is merged. Merging a pair that occurs once would only memorize
# a part of one text.
MIN_PAIR_COUNT = 2


def train_translation_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """Trains a BPE tokenizer shared by source and target; every encoded sentence ends in `</s>`.

    Punctuation marks and digits are separate tokens. A character that the training texts lack is encoded as its UTF-8
    bytes, so no character becomes `<unk>`. Names of special tokens inside a text are encoded as ordinary characters: a
    sentence that contains "</s>" does not end there.

    Args:
        texts: sentences of both languages.
        vocab_size: maximum number of tokens, including special tokens and 256 byte tokens; the vocabulary is smaller if
            the texts have too few merges.
        max_length: number of tokens to which `truncation=True` truncates, `</s>` included.

    Raises:
        UserError: If `vocab_size` is too small for the special tokens, the byte tokens and the characters of the texts.
    """
    special_tokens = ["<pad>", "<unk>", "<s>", "</s>"]
    backend = _translation_backend()
    trainer = trainers.BpeTrainer(
        # A negative size would overflow in Rust. `_check_vocab_size` reports a vocabulary size that is too small.
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
    texts: Iterable[str],
    vocab_size: int,
    max_length: int,
    lowercase: bool = False,
    strip_accents: bool = False,
) -> PreTrainedTokenizerFast:
    """Trains BERT's WordPiece tokenizer: `[CLS] A [SEP] B [SEP]` with token types 0 and 1.

    Unlike BERT's, it loses no more of a text than it must: a character that the training texts lack is one `[UNK]`, and
    the rest of its word stays; a word of more than 100 characters (a URL, a text without spaces) is cut into pieces of
    100 instead of becoming `[UNK]`; joiners stay.

    Args:
        texts: the training texts.
        vocab_size: maximum number of tokens, special tokens included; the vocabulary is smaller if the texts have too
            few merges.
        max_length: number of tokens to which `truncation=True` truncates, special tokens included.
        lowercase: lowercase texts, as the uncased BERT does.
        strip_accents: remove combining marks, as the uncased BERT does. These are accents in Latin scripts, but vowels
            and tones in others (Hindi, Thai, Vietnamese, Arabic, Hebrew).

    Raises:
        UserError: If `vocab_size` is too small for the special tokens and the characters of the texts.
    """
    special_tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(INVISIBLE), ""),
            normalizers.BertNormalizer(clean_text=False, strip_accents=strip_accents, lowercase=lowercase),
        ]
    )
    texts = list(texts)
    found = set().union(*map(backend.normalizer.normalize_str, texts))
    characters = sorted(character for character in found if not character.isspace())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.BertPreTokenizer(),
            pre_tokenizers.Split(Regex(_none_of(characters)), behavior="isolated"),
            pre_tokenizers.Split(Regex(f".{{1,{LONGEST_WORD}}}"), behavior="isolated"),
        ]
    )
    vocab = _train_word_pieces(backend, texts, characters, vocab_size, special_tokens)
    backend.model = models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD)
    _check_vocab_size(backend, vocab_size)
    # With cleanup=True, decoding would rewrite the text: " do not" would become " don't".
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
    """Trains GPT-2's byte-level BPE tokenizer.

    Unlike GPT-2 it has a padding token, so that masking padding does not mask the end-of-text token.

    Args:
        texts: the training texts.
        vocab_size: maximum number of tokens, including special tokens and 256 byte tokens; the vocabulary is smaller if
            the texts have too few merges.
        max_length: number of tokens to which `truncation=True` truncates.

    Raises:
        UserError: If `vocab_size` is too small for the 256 byte tokens and the special tokens.
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
    """Makes a character tokenizer: one id for every distinct character of `texts`, in code point order.

    Any other character is encoded as `<unk>`.

    Args:
        texts: the texts whose characters get an id.
        max_length: number of characters to which `truncation=True` truncates.
    """
    special_tokens = ["<|endoftext|>", "<|pad|>", "<unk>"]
    characters = sorted(set().union(*texts))
    vocab = {token: index for index, token in enumerate([*special_tokens, *characters])}
    backend = Tokenizer(models.BPE(vocab, merges=[], unk_token="<unk>"))
    backend.decoder = decoders.Fuse()
    return _wrap_decoder(backend, max_length, unk_token="<unk>")


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Writes the files that `AutoTokenizer.from_pretrained(folder)` reads.

    `save_pretrained` would also write the truncation and padding settings of the last call, and programs that read
    tokenizer.json without transformers would truncate and pad every text. So these settings are removed first.
    """
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def model_saver(tokenizer: PreTrainedTokenizerFast) -> Callable[[PreTrainedModel, Path], None]:
    """Returns a function that saves a model and this tokenizer into a folder that `from_pretrained` loads."""

    def save(model: PreTrainedModel, folder: Path) -> None:
        model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)

    return save


def saved_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Loads a saved tokenizer.

    Args:
        name: a folder or a Hub repository, the value of the setting `tokenizer.name`.

    Raises:
        UserError: If no tokenizer is found, or its files are damaged.
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
    """Returns the translation tokenizer's normalizer, pre-tokenizer and decoder, with an empty BPE model."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(SPACE, LITERAL_SPACE_MARK),
            # pre_tokenizers.Metaspace would add no mark before a leading space, and decoding would drop this space.
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
    """Returns the trained BPE model with the 256 byte tokens inserted after the special tokens.

    The trainer could only add them as special tokens, which decoding skips.
    """
    trained = json.loads(backend.to_str())["model"]
    pieces = [
        piece for piece in sorted(trained["vocab"], key=trained["vocab"].__getitem__) if piece not in special_tokens
    ]
    vocab = {token: index for index, token in enumerate([*special_tokens, *BYTE_TOKENS, *pieces])}
    merges = [tuple(merge) for merge in trained["merges"]]
    return models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True)


def _none_of(characters: Sequence[str]) -> str:
    """Returns a regular expression of any character but these, which are sorted."""
    if not characters:
        return "."
    ranges: list[list[int]] = []
    for code in map(ord, characters):
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[^" + "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in ranges) + "]"


def _train_word_pieces(
    backend: Tokenizer, texts: list[str], characters: Sequence[str], vocab_size: int, special_tokens: list[str]
) -> dict[str, int]:
    """Trains WordPiece on `texts`, which have these characters; returns the vocabulary, the same in every run.

    The trainer numbers pieces of one character, `##x`, in the order of a hash map, and breaks ties by number
    (tokenizers 0.23). Passing all of these pieces as special tokens fixes their numbers.
    """
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
            f" texts alone take {needed} tokens. Give at least {needed}, better several times as many"
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
    """Wraps a tokenizer for transformers; it pads and truncates on `side`."""
    settings.setdefault("model_input_names", ["input_ids", "attention_mask"])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        padding_side=side,
        truncation_side=side,
        clean_up_tokenization_spaces=False,
        **settings,
    )
