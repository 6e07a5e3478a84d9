import dataclasses
import re
import warnings

import numpy as np
import pytest

import archijax as aj
from archijax.errors import InputError, InputWarning
from benchmarks.sets import notes, phrases
from benchmarks.sets.instruments import INSTRUMENTS
from configs import long, quickstart
from configs import notes as single_notes
from train.dataset import DataConfig
from train.prompts import FIELDS, Template, describe, prompt, tokenizer

TAGS = {"title": "One Two", "artist": "Three", "album": "Four", "genre": "Five", "year": "1966", "comment": "Six"}


def test_prompt_statistics():
    rng = np.random.default_rng(0)
    drawn = [prompt(TAGS, rng) for _ in range(4_000)]
    for name in FIELDS:
        assert abs(np.mean([TAGS[name] in text for text in drawn]) - 0.9) < 0.02
    assert abs(np.mean(["," in text for text in drawn]) - 0.5) < 0.03
    first = [text.startswith(TAGS["genre"]) for text in drawn]
    assert abs(np.mean(first) - 0.2) < 0.03
    assert not any("Six" in text for text in drawn)


def test_prompt_of_all_tags_is_a_permutation():
    rng = np.random.default_rng(0)
    texts = {prompt({"title": "a", "artist": "b"}, rng, drop=0.0) for _ in range(100)}
    assert texts == {"a b", "b a", "a, b", "b, a"}


def test_prompt_may_be_empty_and_ends_with_the_position():
    rng = np.random.default_rng(0)
    assert prompt(TAGS, rng, drop=1.0) == ""
    assert prompt({}, rng) == ""
    assert prompt({}, rng, position=(3, 4)) == "3 of 4"
    texts = {prompt({"title": "a"}, rng, drop=0.0, position=(1, 4)) for _ in range(100)}
    assert texts == {"a 1 of 4", "a, 1 of 4"}


def test_prompt_is_the_generators():
    draw = [[prompt(TAGS, np.random.default_rng(seed)) for seed in range(20)] for _ in range(2)]
    assert draw[0] == draw[1]
    assert len(set(draw[0])) > 10


def test_describe_falls_back_to_the_name():
    assert describe({"genre": "Jazz", "tracknumber": "3", "title": ""}, "x/a_b.wav") == {"genre": "Jazz"}
    assert describe({"comment": "ripped"}, "x/slow_warm__pad.take.wav") == {"title": "slow warm pad.take"}


def test_a_prompt_that_is_cut_is_told_once():
    config = dataclasses.replace(quickstart.config.model, text=aj.configs.TextConfig(max_length=12))
    tokenize = tokenizer(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenize(["", "eleven byte"])
    expected = r"13 tokens, but the model reads 12: the end 's' of 'twelve bytes' is cut off"
    with pytest.warns(InputWarning, match=expected) as told:
        tokenize(["eleven byte", "twelve bytes", "many more than twelve bytes"])
    assert len(told) == 1
    # Another warning would be an error.
    tokenize(["many more than twelve bytes"])


@pytest.mark.parametrize("config", [quickstart, single_notes, long], ids=lambda module: module.__name__)
def test_no_caption_of_a_note_is_cut(config):
    # A caption that is cut is a warning, and thus an error.
    tokenize = tokenizer(getattr(config, "small", config.config).model)
    for instrument in INSTRUMENTS:
        for pitch in instrument.pitches[::7]:
            tokenize(
                [text for strength in notes.STRENGTHS for text in notes.captions(instrument, pitch, strength, 4.0)]
            )


def test_no_caption_of_a_phrase_is_cut():
    tokenize = tokenizer(long.small.model)
    for instrument in INSTRUMENTS:
        rng = np.random.default_rng(instrument.program)
        tokenize([text for index in range(8) for text in phrases._phrase(rng, instrument, index, 4.0)[2]])
    for index in range(8):
        tokenize(phrases._loop(np.random.default_rng(index), 24, index, 4.0)[2])


def test_a_template_leaves_no_word_alone():
    template = Template.parse("{title} by {artist:0.5} from {year}!")
    assert template.names == ("title", "artist", "year")
    known, rng = {"title": "One", "artist": "Two", "year": 1999.0}, np.random.default_rng(0)
    drawn = [template.fill(known, rng) for _ in range(2_000)]
    assert set(drawn) == {"One by Two from 1999!", "One, 1999!"}
    assert abs(np.mean(["Two" in text for text in drawn]) - 0.5) < 0.04
    for missing, text in (
        (("title",), "Two from 1999!"), (("year",), "One by Two"), (("artist",), "One, 1999!"),
        (("title", "artist"), "1999!"), (("title", "year"), "Two"), (("title", "artist", "year"), ""),
    ):  # fmt: skip
        some = {name: value for name, value in known.items() if name not in missing}
        assert text in {template.fill(some, rng) for _ in range(40)}
    assert Template.parse("A {a} at {bpm} BPM").fill({"bpm": 92.5}, rng) == "92.5 BPM"
    assert Template.parse("A {a} at {bpm} BPM").fill({"a": "{b}"}, rng) == "A {b}"


@pytest.mark.parametrize("text", ["", "words", "{title", "{}", "{title:often}", "{title:1.5}", "{title!r}", "{a:nan}"])
def test_a_wrong_template_is_one_sentence(text):
    with pytest.raises(InputError, match=re.escape(f'data.template is "{text}", but must name fields as')):
        DataConfig(template=text)
