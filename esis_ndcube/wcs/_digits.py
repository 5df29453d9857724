"""Headers with every digit of their numbers, which astropy cuts to 20 characters."""

import copy

import numpy as np

from astropy.io import fits
from astropy.wcs import WCSHDO_P17, WCSHDO_all

_CARD = 80


def write_all_digits(header, wcs, key=None):
    """Replace the numbers of a WCS's header, which have 14 digits, by those of the WCS; in place."""
    exact = _exact_values(wcs, key)
    for index, card in enumerate(header.cards):
        value = exact.get(card.keyword)
        if value is not None and np.isfinite(value):
            header._cards[index] = _card(card.keyword, value, card.comment)


def set_number(header, keyword, value, comment=""):
    """Set a keyword to a number, with all digits; in place."""
    header[keyword] = (float(value), comment)
    header._cards[header.index(keyword)] = _card(keyword, value, comment)


def all_digits(core):
    """The header of the core of a WCS, its attribute ``wcs``, as text, with 17 digits, which are all digits."""
    return core.to_header(WCSHDO_all | WCSHDO_P17)


def _card(keyword, value, comment):
    # FITS wants an upper-case E.
    text = f"{keyword:8}= {repr(float(value)).upper():>20}"
    return fits.Card.fromstring((f"{text} / {comment}" if comment else text)[:_CARD])


def _exact_values(wcs, key):
    """Keyword to number."""
    values, core = {}, wcs.wcs
    if key is not None:
        core = copy.deepcopy(core)
        core.alt = key
    text = all_digits(core)
    for card in (text[start : start + _CARD] for start in range(0, len(text), _CARD)):
        number = card[10:].split("/")[0]
        if card[8:10] == "= " and "'" not in number and ("." in number or "E" in number):
            values[card[:8].rstrip()] = float(number)
    if wcs.sip is not None:
        for name in ("a", "b", "ap", "bp"):
            array = getattr(wcs.sip, name)
            for (i, j), value in () if array is None else np.ndenumerate(array):
                values[f"{name.upper()}_{i}_{j}"] = value
    return values
