import json
import subprocess
import sys

import huggingface_hub.constants
import jax
import numpy as np
import pytest
from nets import TEXT_MODEL
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import archijax as aj
from archijax.configs import from_dict, to_dict
from archijax.errors import InputError, InputWarning
from archijax.text import load_tokenizer, tokenize, warn_of_cut


@pytest.fixture(scope="module")
def byte_tokenizer():
    return load_tokenizer("bytes")


@pytest.fixture
def words(tmp_path):
    """A folder with a tokenizer of four words."""
    vocab = {"<pad>": 0, "</s>": 1, "<unk>": 2, "warm": 3, "organ": 4}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def test_bytes_are_utf8_plus_three_then_the_end_then_padding(byte_tokenizer):
    tokens, mask = tokenize(byte_tokenizer, ["hé", ""], max_length=5)
    assert tokens.dtype == np.int32
    assert mask.dtype == bool
    assert tokens.tolist() == [[ord("h") + 3, 0xC3 + 3, 0xA9 + 3, 1, 0], [1, 0, 0, 0, 0]]
    assert mask.sum(axis=1).tolist() == [4, 1]


def test_the_byte_vocabulary_covers_every_text(byte_tokenizer):
    text = "".join(map(chr, [*range(1, 0xD800), 0x10FFFF])) + "<extra_id_7> </s> <pad>"
    tokens, mask = tokenize(byte_tokenizer, [text], max_length=200_000)
    assert len(byte_tokenizer) == 259
    assert tokens.max() < 259
    assert bytes((tokens[mask][:-1] - 3).astype(np.uint8)) == text.encode()


def test_words_are_tokens_and_notes_have_a_name_and_an_octave():
    tokenizer = load_tokenizer("words")

    def ids(*texts):
        tokens, mask = tokenize(tokenizer, list(texts), 8)
        assert tokens.shape == mask.shape == (len(texts), 8)
        assert tokens.max() < len(tokenizer) == aj.configs.nets.VOCABULARY["words"]
        return [row[used].tolist() for row, used in zip(tokens, mask, strict=True)]

    (flute, note, c, four, end), (again, c_again, five, _) = ids("Flute, C#4", "flute C#5")
    assert (flute, c, end) == (again, c_again, 1)
    assert len({flute, note, c, four, five}) == 5
    # Case tells the note A from the article.
    assert ids("A") != ids("a")
    assert ids("DB4") == ids("Db4")
    assert ids("", "une flûte à bec 12") == [[1], [*ids("une flûte à bec")[0][:-1], *ids("12")[0]]]
    assert ids("a b c d e f g h i") == [[*ids("a b c d e f g")[0]]]


@pytest.mark.parametrize("max_length", [1, 3, 12])
def test_truncation_keeps_the_end(byte_tokenizer, max_length):
    tokens, mask = tokenize(byte_tokenizer, ["a" * 20], max_length)
    assert tokens.tolist() == [[ord("a") + 3] * (max_length - 1) + [1]]
    assert mask.all()


def test_what_is_cut_off_is_told(byte_tokenizer, words):
    assert not warn_of_cut(byte_tokenizer, ["", "four", "five!"], max_length=6)
    # The limit cuts a letter of two bytes. The whole letter is left out.
    with pytest.warns(InputWarning, match=r"8 tokens, but the model reads 6: the end 'é' of 'pianoé' is cut off"):
        assert warn_of_cut(byte_tokenizer, ["four", "pianoé", "another one"], max_length=6)
    with pytest.warns(InputWarning, match=r"5 tokens, but the model reads 3: the end 'warm warm' of .* is cut off"):
        assert warn_of_cut(load_tokenizer(words), ["warm organ warm warm"], max_length=3)
    placeholder = load_tokenizer("bytes", placeholder_tokens=("<mine>",))
    with pytest.warns(InputWarning, match=r"6 tokens, but the model reads 4: the end 'cd' of .* is cut off"):
        assert warn_of_cut(placeholder, ["a<mine>bcd"], max_length=4)


def test_a_folder_is_enough(words):
    tokens, mask = tokenize(load_tokenizer(words), ["warm organ", "organ " * 9, "warm </s> organ"], max_length=5)
    assert tokens[:2].tolist() == [[3, 4, 1, 0, 0], [4, 4, 4, 4, 1]]
    assert mask[:2].tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert np.argmax(tokens[2] == 1) == 4, "an end token spelled in the text is not one"


def test_byt5_needs_no_vocabulary_file(tmp_path, byte_tokenizer):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    ours, theirs = (tokenize(t, ["hé!"], 6)[0] for t in (byte_tokenizer, load_tokenizer(tmp_path)))
    np.testing.assert_array_equal(ours, theirs)


def test_a_folder_without_a_vocabulary_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"get tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(InputError, match=r"get tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_damaged_tokenizer_is_refused(words):
    (words / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read") as error:
        load_tokenizer(words)
    assert "\n" not in str(error.value)


def test_code_in_a_folder_is_not_run(words):
    (words / "evil.py").write_text("raise SystemExit")
    config = json.loads((words / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    (words / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="cannot be read"):
        load_tokenizer(words)


def test_a_missing_tokenizer_says_what_to_download(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"get tokenizer\.json.*https://huggingface\.co/t5-none"):
        load_tokenizer("t5-none")


@pytest.mark.parametrize("texts", [[], "a text", [3], ["fine", "bad \ud800"]])
def test_refuses_what_is_no_list_of_texts(byte_tokenizer, texts):
    with pytest.raises(InputError, match="string"):
        tokenize(byte_tokenizer, texts, 8)


def test_refuses_no_length(byte_tokenizer):
    with pytest.raises(InputError, match="max_length is 0"):
        tokenize(byte_tokenizer, ["a"], 0)


def test_learned_words_have_ids_below_zero(words):
    tokenizer = load_tokenizer("bytes", placeholder_tokens=("<m>", "<m>s", "organ"))
    tokens, mask = tokenize(tokenizer, ["a<m>s", "<m><m>s", "ab", "organ<m> organ", ""], max_length=5)
    assert tokens.tolist() == [
        [100, -2, 1, 0, 0],
        [-1, -2, 1, 0, 0],
        [100, 101, 1, 0, 0],
        [-3, -1, 35, -3, 1],
        [1, 0, 0, 0, 0],
    ]
    assert mask.sum(axis=1).tolist() == [3, 3, 3, 5, 1]
    assert tokenize(tokenizer, ["abc<m>"], max_length=3)[0].tolist() == [[100, 101, 1]]
    tokens, _ = tokenize(
        load_tokenizer(words, placeholder_tokens=("<m>",)), ["warm <m> organ", "<m>, </s>"], max_length=6
    )
    assert tokens[0].tolist() == [3, -1, 4, 1, 0, 0]
    assert list(tokens[1]).count(1) == 1, "an end token spelled in the text is not one"


def test_a_learned_word_is_read_like_one_that_the_encoder_knows():
    encoder = aj.nn.T5Encoder(TEXT_MODEL.text.t5())
    tokens = np.array([[70, 5, 80, 1], [70, 71, 1, 0]], np.int32)
    mask = tokens > 0
    params = jax.jit(encoder.init)(jax.random.key(0), tokens, mask)["params"]
    learned = np.stack([np.zeros(8, np.float32), params["embed"]["embedding"][5]])
    with_word = np.where(tokens == 5, -2, tokens)
    read = jax.jit(lambda *given: encoder.apply({"params": params}, *given))
    np.testing.assert_allclose(read(with_word, mask, learned), read(tokens, mask), atol=1e-6)

    # The gradient passes through a frozen encoder to the word, in the text that contains the word.
    model = aj.DiffusionModel(net=aj.nn.SkipAdd(), embedder=encoder, frozen_embedder=True, num_placeholders=2)
    batch = {"tokens": with_word, "token_mask": mask}

    def text(learned):
        variables = {"params": {"placeholders": learned}, "frozen": {"embedder": params}}
        return model.conditioning(variables, batch)["embedding"][:, 0, 0]

    (other, word), without = np.abs(jax.jit(jax.jacrev(text))(learned))
    assert word.min() > 0
    assert other.max() == without.max() == 0


def test_learned_words_are_optional_and_differ():
    settings = to_dict(TEXT_MODEL)
    del settings["text"]["placeholder_tokens"]
    assert from_dict(settings) == TEXT_MODEL
    for words in (("<m>", "<m>"), ("",)):
        with pytest.raises(InputError, match=r"text\.placeholder_tokens is"):
            aj.configs.TextConfig(placeholder_tokens=words)


@pytest.mark.slow
def test_importing_it_is_quiet():
    command = [sys.executable, "-W", "error", "-c", "import archijax.text"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
