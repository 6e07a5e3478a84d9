"""Makes the tags of sound files readable.

Genre numbers are replaced by names, and text that was decoded by a wrong code page is repaired.
"""

import re
import unicodedata

# The genres of ID3v1 and of Winamp's extension, by number.
_GENRES = (
    "Blues|Classic Rock|Country|Dance|Disco|Funk|Grunge|Hip-Hop|Jazz|Metal|New Age|Oldies|Other|Pop|"
    "R&B|Rap|Reggae|Rock|Techno|Industrial|Alternative|Ska|Death Metal|Pranks|Soundtrack|Euro-Techno|"
    "Ambient|Trip-Hop|Vocal|Jazz+Funk|Fusion|Trance|Classical|Instrumental|Acid|House|Game|Sound Clip|"
    "Gospel|Noise|Alternative Rock|Bass|Soul|Punk|Space|Meditative|Instrumental Pop|Instrumental Rock|"
    "Ethnic|Gothic|Darkwave|Techno-Industrial|Electronic|Pop-Folk|Eurodance|Dream|Southern Rock|Comedy|"
    "Cult|Gangsta|Top 40|Christian Rap|Pop/Funk|Jungle|Native American|Cabaret|New Wave|Psychedelic|"
    "Rave|Showtunes|Trailer|Lo-Fi|Tribal|Acid Punk|Acid Jazz|Polka|Retro|Musical|Rock & Roll|"
    "Hard Rock|Folk|Folk-Rock|National Folk|Swing|Fast Fusion|Bebop|Latin|Revival|Celtic|Bluegrass|"
    "Avantgarde|Gothic Rock|Progressive Rock|Psychedelic Rock|Symphonic Rock|Slow Rock|Big Band|Chorus|"
    "Easy Listening|Acoustic|Humour|Speech|Chanson|Opera|Chamber Music|Sonata|Symphony|Booty Bass|"
    "Primus|Porn Groove|Satire|Slow Jam|Club|Tango|Samba|Folklore|Ballad|Power Ballad|Rhythmic Soul|"
    "Freestyle|Duet|Punk Rock|Drum Solo|A Cappella|Euro-House|Dance Hall|Goa|Drum & Bass|Club-House|"
    "Hardcore|Terror|Indie|BritPop|Afro-Punk|Polsk Punk|Beat|Christian Gangsta Rap|Heavy Metal|"
    "Black Metal|Crossover|Contemporary Christian|Christian Rock|Merengue|Salsa|Thrash Metal|Anime|JPop|"
    "Synthpop|Abstract|Art Rock|Baroque|Bhangra|Big Beat|Breakbeat|Chillout|Downtempo|Dub|EBM|"
    "Eclectic|Electro|Electroclash|Emo|Experimental|Garage|Global|IDM|Illbient|Industro-Goth|Jam Band|"
    "Krautrock|Leftfield|Lounge|Math Rock|New Romantic|Nu-Breakz|Post-Punk|Post-Rock|Psytrance|Shoegaze|"
    "Space Rock|Trop Rock|World Music|Neoclassical|Audiobook|Audio Theatre|Neue Deutsche Welle|Podcast|"
    "Indie Rock|G-Funk|Dubstep|Garage Rock|Psybient"
)
GENRES = tuple(_GENRES.split("|"))
_ABBREVIATED = {"RX": "Remix", "CR": "Cover"}

# Code pages of non-Latin alphabets, each with the ten most frequent letters of a language in that alphabet.
_CODE_PAGES = {
    "cp1251": "оеаинтсрвл",
    "koi8_r": "оеаинтсрвл",
    "cp866": "оеаинтсрвл",
    "cp1253": "αοιετσνηυρ",
    "cp1255": "יוהלאתרמבש",
}
_FREQUENT = 0.4  # in a text of the language, these letters are at least this share of all letters


def cleaned(tags: dict[str, str]) -> dict[str, str]:
    """Returns a dict of readable tags. Tags that are empty or cannot be made readable are left out.

    The tag "date" is renamed to "year". If its text contains four digits in a row, only these digits are kept.
    """
    texts = {name: text for name, value in tags.items() if (text := readable(" ".join(value.split())))}
    if date := texts.pop("date", None):
        year = re.search(r"\d{4}", date)
        texts["year"] = year.group() if year else date
    texts["genre"] = named(texts.get("genre", ""))
    return {name: text for name, text in texts.items() if text}


def named(genre: str) -> str:
    """Returns the name of a genre. Numbers, such as "(17)" or "17", are replaced by their entry in `GENRES`.

    The format of the numbers is that of ID3v2 (section 4.2.1, TCON). For example, ``named("(17)")`` returns "Rock".
    """
    references = re.match(r"(?:\((?:\d+|RX|CR)\))*", genre).group()
    rest = genre[len(references) :].strip()
    if not references and rest.isdecimal():
        references, rest = f"({rest})", ""
    if rest:
        # Text after the numbers is more exact than the numbers. A bracket at its start is doubled.
        return rest[1:] if rest.startswith("((") else rest
    words = (
        _ABBREVIATED.get(number) or (GENRES[int(number)] if int(number) < len(GENRES) else "")
        for number in _numbers(references)
    )
    return ", ".join(word for word in words if word)


def _numbers(references: str) -> list[str]:
    return re.findall(r"\((\w+)\)", references)


def readable(text: str) -> str:
    """Repairs a text that was decoded by a wrong code page. Returns "" if the right code page is unknown.

    A text counts as wrongly decoded if it has control characters, or three or more different letters beyond ASCII in a
    row. Such sequences do not occur in the languages of Latin-1. Text with replacement characters (U+FFFD) cannot be
    repaired.
    """
    if "\ufffd" in text:
        return ""
    if text.isascii() or not all(ord(letter) < 256 for letter in text):
        return text
    raw = text.encode("latin-1")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        pass
    control = any(unicodedata.category(letter) == "Cc" for letter in text)
    runs = re.findall(r"[\xa1-\xff]{3,}", text)
    if not control and not any(len(set(run.lower())) >= 3 for run in runs):
        return text
    return _repaired(raw)


def _repaired(raw: bytes) -> str:
    """Decodes bytes by the code page that gives the largest share of frequent letters, or returns "" if none fits."""
    best, best_share = "", _FREQUENT
    for page, frequent in _CODE_PAGES.items():
        try:
            text = raw.decode(page)
        except UnicodeDecodeError:
            continue
        letters = [letter for letter in text if not letter.isascii()]
        if not all(letter.isalpha() or letter in "«»№–—“”„…’" for letter in letters) or not _cased(text):
            continue
        share = sum(letter.lower() in frequent for letter in _without_accents(letters)) / len(letters)
        if share > best_share:
            best, best_share = text, share
    return best


def _cased(text: str) -> bool:
    """Returns whether every word is in lower case, in upper case, or capitalised."""
    return all(word.istitle() or word.islower() or word.isupper() for word in re.findall(r"[^\W\d_]{2,}", text))


def _without_accents(letters: list[str]) -> list[str]:
    return [unicodedata.normalize("NFD", letter)[0] if letter not in "йЙ" else letter for letter in letters]
