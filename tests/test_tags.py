import pytest

from archijax.audio.tags import GENRES, cleaned, named, readable


def test_genre_numbers_become_names():
    assert len(GENRES) == 192
    expected = {
        "(17)": "Rock",
        "17": "Rock",
        "(17)Rock": "Rock",
        "(51)(39)": "Techno-Industrial, Noise",
        "(4)Eurodisco": "Eurodisco",
        "(RX)": "Remix",
        "((Foo)": "(Foo)",
        "191": "Psybient",
        "(255)": "",
        "80s": "80s",
        "Jazz (Bebop)": "Jazz (Bebop)",
    }
    assert {genre: named(genre) for genre in expected} == expected
    assert cleaned({"genre": "(255)", "title": " a\n b ", "album": " "}) == {"title": "a b"}


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("cp1251", "Песня"),
        ("cp1251", "Кино - Группа крови"),
        ("cp1251", "Ой у лузі червона калина"),
        ("koi8_r", "Владимир Высоцкий"),
        ("cp866", "МУМИЙ ТРОЛЛЬ"),
        ("cp1253", "Μίκης Θεοδωράκης"),
        ("utf-8", "Größe – 東京"),
    ],
)
def test_text_in_the_wrong_code_page_is_repaired(page, text):
    assert readable(text.encode(page).decode("latin-1")) == text


@pytest.mark.parametrize(("page", "text"), [("shift_jis", "さくら"), ("gbk", "中国音乐"), ("cp1256", "فيروز")])
def test_text_that_nobody_can_read_is_left_out(page, text):
    garbled = text.encode(page).decode("latin-1")
    assert cleaned({"title": garbled, "artist": "\ufffd\ufffd", "album": "A"}) == {"album": "A"}


@pytest.mark.parametrize(
    "text",
    [
        "Nocturne Øp. 9",
        "Ängström",
        "Sigur Rós - Ágætis byrjun",
        "Été",
        "Jäääär",
        "Çà et là",
        "Dvořák",
        "東京",
        "© 2001",
    ],
)
def test_text_of_any_language_stays(text):
    assert readable(text) == text


def test_years():
    assert cleaned({"date": "2003-05-01"}) == {"year": "2003"}
    assert cleaned({"date": "unknown"}) == {"year": "unknown"}
