"""Text as token ids, by a tokenizer of a pretrained encoder or one of our own."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from ..command.notices import notice
from ..errors import DataError
from .buckets import bucket
from .examples import NO_TOKEN, Encoded
from .pointers import HEAD, pointer

_UNKNOWN = "[UNK]"


def train_tokenizer(
    texts: Iterable[str], *, vocabulary_size: int
) -> tokenizers.Tokenizer:
    """Trains byte-pair encoding on lower-cased text without accents.

    Words begin with `▁`. Prefixed pieces (`##ing`) would mark word parts as well, but
    their trainer numbers the alphabet in an order that changes from run to run.

    Args:
      texts: the training split's documents.
      vocabulary_size: the largest number of tokens, the unknown one included.

    Returns:
      A tokenizer with `[UNK]` as token 0.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, special_tokens=[_UNKNOWN], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def read_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """Returns the tokenizer that a `tokenizer.json` describes.

    Raises:
      DataError: there is none, it cannot be read, or it has no token for what it does
        not know and so would drop that in silence.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; save the fast tokenizer with the model: "
            "`AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER)`"
        )
    with path.open("rb") as file:
        what = pointer(file.read(HEAD))
    if what:
        raise DataError(f"{path}: {what}")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise DataError(f"{path}: not a tokenizer in order: {error}") from error
    if not _knows_the_unknown(tokenizer):
        raise DataError(
            f"{path}: the tokenizer has no unknown token and would drop characters "
            f"that its vocabulary lacks; set `unk_token` of its model ({_UNKNOWN!r}, "
            "say) to an entry of its vocabulary"
        )
    return tokenizer


def encode_texts(
    tokenizer: tokenizers.Tokenizer,
    texts: Sequence[str],
    *,
    max_length: int,
    split: str = "texts",
) -> Encoded:
    """Returns token ids, cut at the end or padded there by NO_TOKEN.

    Args:
      tokenizer: whose special tokens count among `max_length`.
      texts: n documents; an empty one has its special tokens alone, or none.
      max_length: tokens a document at most.
      split: what they are of, for the notice that says how many were cut.

    Returns:
      Inputs int32 [n, longest bucket], and the lengths.
    """
    encodings = _encode(tokenizer, texts, max_length, split)
    return _padded([encoding.ids for encoding in encodings], max_length)


def encode_words(
    tokenizer: tokenizers.Tokenizer,
    rows: Sequence[Sequence[str]],
    *,
    max_length: int,
    split: str = "texts",
) -> Encoded:
    """Returns token ids of texts that come as words, and where each word begins.

    Args:
      tokenizer: whose special tokens count among `max_length`.
      rows: n texts. A word that the tokenizer takes for nothing becomes unknown, so
        that every word has a first piece.
      max_length: tokens a text at most; words beyond it begin at `max_length`.
      split: what they are of, for the notice that says how many were cut.

    Returns:
      Inputs int32 [n, longest bucket], the lengths, and the first pieces.
    """
    written = _as_written(tokenizer, {word for row in rows for word in row})
    rows = [[written[word] for word in row] for row in rows]
    encodings = _encode(tokenizer, rows, max_length, split, words=True)
    first_pieces = []
    for row, encoding in zip(rows, encodings, strict=True):
        pieces = np.full(len(row), max_length, np.int64)
        # Backwards, so that a word's first piece is the one that stays.
        for position in reversed(range(len(encoding.word_ids))):
            word = encoding.word_ids[position]
            if word is not None:
                pieces[word] = position
        first_pieces.append(pieces)
    encoded = _padded([encoding.ids for encoding in encodings], max_length)
    return encoded._replace(first_pieces=first_pieces)


def _encode(
    tokenizer: tokenizers.Tokenizer,
    rows: Sequence,
    max_length: int,
    split: str,
    *,
    words: bool = False,
) -> list[tokenizers.Encoding]:
    """Encodes rows, cut at `max_length`, and says once how many were cut."""
    special = tokenizer.num_special_tokens_to_add(is_pair=False)
    if max_length <= special:
        raise DataError(
            f"`data.max_length`: {max_length} tokens a text leave no room by the "
            f"tokenizer's {special} special ones; raise it"
        )
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    encodings = tokenizer.encode_batch(rows, is_pretokenized=words)
    cut = sum(bool(encoding.overflowing) for encoding in encodings)
    if cut:
        notice(
            f"{split}: {cut} of {len(rows)} texts are longer than {max_length} tokens "
            "and are cut there (data.max_length)"
        )
    return encodings


def _padded(rows: list[list[int]], max_length: int) -> Encoded:
    """Returns rows of token ids side by side, no wider than they need."""
    lengths = np.array([len(row) for row in rows], np.int32)
    width = bucket(int(lengths.max(initial=1)), max_length)
    tokens = np.full((len(rows), width), NO_TOKEN, np.int32)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    return Encoded(tokens, lengths)


def word_writing(tokenizer: tokenizers.Tokenizer) -> tuple[str, str]:
    """Returns what is written before a word, and in place of one without a piece."""
    # A byte-level tokenizer knows the start of a word by the space before it.
    pre_tokenizer = tokenizer.pre_tokenizer
    byte_level = isinstance(pre_tokenizer, pre_tokenizers.ByteLevel)
    space = " " if byte_level and not pre_tokenizer.add_prefix_space else ""
    # It has a piece for anything but the empty word.
    return space, getattr(tokenizer.model, "unk_token", None) or space + "?"


def _as_written(tokenizer: tokenizers.Tokenizer, words: set[str]) -> dict[str, str]:
    """Returns each word as the tokenizer must see it to give it a piece."""
    space, unknown = word_writing(tokenizer)
    ordered = sorted(words)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encodings = tokenizer.encode_batch(
        [[space + word] for word in ordered],
        is_pretokenized=True,
        add_special_tokens=False,
    )
    return {
        word: space + word if encoding.ids else unknown
        for word, encoding in zip(ordered, encodings, strict=True)
    }


def _knows_the_unknown(tokenizer: tokenizers.Tokenizer) -> bool:
    """Returns whether nothing that the tokenizer meets can vanish."""
    model = json.loads(tokenizer.to_str())["model"]
    if model["type"] == "Unigram":
        return model["unk_id"] is not None or model["byte_fallback"]
    vocabulary = tokenizer.get_vocab(with_added_tokens=True).keys()
    every_byte = set(pre_tokenizers.ByteLevel.alphabet()) <= vocabulary
    if model["type"] == "BPE" and (model["byte_fallback"] or every_byte):
        return True
    return model["unk_token"] in vocabulary
