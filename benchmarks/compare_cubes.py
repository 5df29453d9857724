"""
Compare two FITS files of cubes bit by bit: arrays, tables and headers.

::

    python benchmarks/compare_cubes.py OLD.fits NEW.fits

The time and the version of the writing are left out. The script ends with 1 if anything differs.
"""

import re
import sys

from astropy.io import fits

LEFT_OUT = re.compile("CHECKSUM|DATASUM|DATE|CREATOR|FILENAME|PRVER[0-9]+|version")


def cards(header):
    """Keywords, values and comments of a header, without those that are left out."""
    return [(card.keyword, card.value, card.comment) for card in header.cards if not LEFT_OUT.fullmatch(card.keyword)]


def _bits(array):
    """Type, shape and bytes of an array; of steps of the processing without the version that did them."""
    if array.dtype.kind == "U":
        return [re.sub(r'"version": "[^"]*"', "", text) for text in array]
    return array.dtype, array.shape, array.tobytes()


def differences(old, new):
    """The differences between two HDUs, a line for each."""
    if cards(old.header) != cards(new.header):
        for one, other in zip(cards(old.header), cards(new.header), strict=False):
            if one != other:
                yield f"card {one} is {other}"
        if len(cards(old.header)) != len(cards(new.header)):
            yield f"{len(cards(old.header))} cards are {len(cards(new.header))}"
    if (old.data is None) != (new.data is None):
        yield "one has no data"
    elif isinstance(old, fits.BinTableHDU) and isinstance(new, fits.BinTableHDU):
        names = [[name for name in hdu.columns.names if not LEFT_OUT.fullmatch(name)] for hdu in (old, new)]
        if names[0] != names[1]:
            yield f"columns {names[0]} are {names[1]}"
            return
        for name in names[0]:
            if _bits(old.data[name]) != _bits(new.data[name]):
                yield f"column {name} differs"
    elif old.data is not None and _bits(old.data) != _bits(new.data):
        yield "the array has other bits"


def main(old, new):
    """Print the differences, HDU by HDU."""
    different = False
    with fits.open(old, memmap=True) as one, fits.open(new, memmap=True) as other:
        names = [hdu.name for hdu in one]
        if names != [hdu.name for hdu in other]:
            print(f"HDUs {names} are {[hdu.name for hdu in other]}")
            return 1
        for name, first, second in zip(names, one, other, strict=True):
            found = list(differences(first, second))
            print(name, "has the same bits and cards" if not found else "differs:")
            for line in found:
                print("   ", line)
            different |= bool(found)
    return int(different)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
