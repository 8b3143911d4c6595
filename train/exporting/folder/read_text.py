"""Texts as the model reads them: it needs tokenizers."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

# A position that holds no token.
NO_TOKEN = -1
Places = list[list[int | None]]


def encode(
    inputs: Sequence[Any], options: Mapping[str, Any], folder: Path
) -> tuple[np.ndarray, Places]:
    """Returns token ids int32 [n, length], and where each input is answered.

    Args:
      inputs: texts, or lists of words where each word is answered.
      options: what model.json says of inputs.
      folder: of the model.
    """
    tokenizer, length = _tokenizer(folder), options["max_length"]
    rows = list(inputs)
    if options["words"]:
        rows = _written(tokenizer, rows, options)
    tokenizer.enable_truncation(length)
    encodings = tokenizer.encode_batch(rows, is_pretokenized=options["words"])
    longest = max((len(encoding.ids) for encoding in encodings), default=1)
    length = min(max(8, 1 << (longest - 1).bit_length()), length)
    tokens = np.full((len(rows), length), NO_TOKEN, np.int32)
    for row, encoding in zip(tokens, encodings, strict=True):
        row[: len(encoding.ids)] = encoding.ids
    if not options["words"]:
        return tokens, [[len(e.ids) - 1 if e.ids else None] for e in encodings]
    return tokens, list(map(_first_pieces, rows, encodings))


@functools.cache
def _tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    return tokenizer


def _written(
    tokenizer: Tokenizer, rows: Sequence[Sequence[str]], options: Mapping[str, Any]
) -> list[list[str]]:
    """Returns words as the tokenizer must see them to give each a piece."""
    space, words = options["space"], sorted({word for row in rows for word in row})
    tokenizer.no_truncation()
    encodings = tokenizer.encode_batch(
        [[space + word] for word in words],
        is_pretokenized=True,
        add_special_tokens=False,
    )
    there = {word for word, e in zip(words, encodings, strict=True) if e.ids}
    unknown = options["unknown"]
    return [[space + w if w in there else unknown for w in row] for row in rows]


def _first_pieces(row: Sequence[str], encoding: Encoding) -> list[int | None]:
    """Returns the position of each word's first piece; None: it was cut off."""
    pieces: list[int | None] = [None] * len(row)
    for position in reversed(range(len(encoding.word_ids))):
        word = encoding.word_ids[position]
        if word is not None:
            pieces[word] = position
    return pieces
