"""The tokenizer that the text task trains."""

import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

import train
from train.data.examples import NO_TOKEN
from train.data.tokenizer import (
    encode_texts,
    encode_words,
    read_tokenizer,
    train_tokenizer,
)
from train.errors import DataError

TEXTS = ["turn the lamp on", "turn the lamp off", "Türn the RADIO on"] * 3


def test_texts_are_cut_and_padded(capsys):
    tokenizer = train_tokenizer(TEXTS, vocabulary_size=64)
    texts = ["turn the lamp on", "", "on " * 9]
    tokens, lengths, *_ = encode_texts(tokenizer, texts, max_length=5)
    assert tokens.shape == (3, 5)
    assert tokens.dtype == "int32"
    assert lengths.tolist() == [4, 0, 5]
    assert (tokens[0, :4] != NO_TOKEN).all()
    assert (tokens[1] == NO_TOKEN).all()
    assert (tokens[2] != NO_TOKEN).all()
    assert "texts: 1 of 3 texts are longer than 5 tokens" in capsys.readouterr().err


def test_a_text_of_100_000_tokens_is_cut(capsys):
    tokenizer = train_tokenizer(TEXTS, vocabulary_size=64)
    tokens, lengths, *_ = encode_texts(tokenizer, ["on " * 100_000], max_length=7)
    assert tokens.shape == (1, 7)
    assert lengths.tolist() == [7]
    assert capsys.readouterr().err.count("note:") == 1


def bert(**fields):
    """A word-piece tokenizer with the special tokens of BERT."""
    words = ["[UNK]", "[CLS]", "[SEP]", "new", "york", "##er", "##s"]
    vocabulary = {word: k for k, word in enumerate(words)}
    fields = {"unk_token": "[UNK]"} | fields
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, **fields))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.add_special_tokens(words[:3])
    return tokenizer


def byte_level():
    """A byte-level tokenizer, in which a space begins a word, as RoBERTa has it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: k for k, letter in enumerate(alphabet)} | {"Ġa": 256}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, [("Ġ", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def test_words_are_read_at_their_first_piece():
    rows = [["new", "yorkers", "york"], []]
    encoded = encode_words(bert(), rows, max_length=16)
    # [CLS] new york ##er ##s york [SEP]
    assert encoded.inputs[0, :7].tolist() == [1, 3, 4, 5, 6, 4, 2]
    assert [row.tolist() for row in encoded.first_pieces] == [[1, 2, 5], []]
    assert encoded.lengths.tolist() == [7, 2]


def test_a_word_that_is_cut_off_begins_beyond_the_text(capsys):
    encoded = encode_words(bert(), [["new", "yorkers", "york"]], max_length=4)
    assert encoded.inputs.tolist() == [[1, 3, 4, 2]]
    assert encoded.first_pieces[0].tolist() == [1, 2, 4]
    assert "1 of 1 texts" in capsys.readouterr().err


def test_a_word_of_nothing_is_unknown():
    encoded = encode_words(bert(), [["new", "", "york"]], max_length=16)
    assert encoded.inputs[0, :5].tolist() == [1, 3, 0, 4, 2]
    assert encoded.first_pieces[0].tolist() == [1, 2, 3]


def test_byte_level_words_begin_with_a_space():
    tokenizer = byte_level()
    encoded = encode_words(tokenizer, [["a", "a"]], max_length=16)
    assert encoded.inputs[0, :2].tolist() == [256, 256]


def test_a_tokenizer_comes_back_from_its_file(tmp_path):
    for number, tokenizer in enumerate([bert(), byte_level()]):
        path = tmp_path / f"{number}.json"
        tokenizer.save(str(path))
        assert read_tokenizer(path).to_str() == tokenizer.to_str()


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: None, ["no such file", "save_pretrained"]),
        (lambda path: path.write_text("{"), ["not a tokenizer in order"]),
        (lambda path: bert(unk_token="[?]").save(str(path)), ["no unknown token"]),
        (
            lambda path: tokenizers.Tokenizer(models.BPE({"a": 0}, [])).save(str(path)),
            ["no unknown token", "unk_token"],
        ),
        (
            lambda path: tokenizers.Tokenizer(models.Unigram([("a", 0.0)])).save(
                str(path)
            ),
            ["no unknown token"],
        ),
    ],
)
def test_refuses_a_tokenizer(tmp_path, write, words):
    path = tmp_path / "tokenizer.json"
    write(path)
    with pytest.raises(DataError) as refusal:
        read_tokenizer(path)
    for word in [str(path), *words]:
        assert word in str(refusal.value)


def test_refuses_a_length_below_that_of_the_special_tokens():
    with pytest.raises(DataError, match=r"data.max_length`: 2 tokens .* 2 special"):
        encode_texts(bert(), ["new"], max_length=2)


def test_case_and_accents_do_not_count():
    tokenizer = train_tokenizer(TEXTS, vocabulary_size=64)
    plain, fancy = tokenizer.encode_batch(["turn radio", "Türn RADIO"])
    assert plain.ids == fancy.ids


def test_a_character_never_seen_is_unknown():
    tokenizer = train_tokenizer(TEXTS, vocabulary_size=64)
    assert tokenizer.token_to_id("[UNK]") in tokenizer.encode("snow ☃").ids


def test_another_process_trains_the_same_tokenizer():
    code = (
        "from train.data.tokenizer import train_tokenizer\n"
        f"print(train_tokenizer({TEXTS!r}, vocabulary_size=64).to_str())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(train.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout == train_tokenizer(TEXTS, vocabulary_size=64).to_str() + "\n"
