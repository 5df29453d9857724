"""
Compare two FITS files of cubes bit by bit: arrays, tables and headers.

::

    python benchmarks/compare_cubes.py OLD.fits NEW.fits

What tells when and by which version a file was written is left out. It ends with 1 if anything differs.
"""

import sys

from astropy.io import fits

LEFT_OUT = {"CHECKSUM", "DATASUM", "DATE", "CREATOR", "FILENAME"}


def cards(header):
    """Keywords, values and comments of a header, without those that are left out."""
    return [(card.keyword, card.value, card.comment) for card in header.cards if card.keyword not in LEFT_OUT]


def differences(old, new):
    """What differs between two HDUs, a line for each."""
    if cards(old.header) != cards(new.header):
        for one, other in zip(cards(old.header), cards(new.header), strict=False):
            if one != other:
                yield f"card {one} is {other}"
        if len(cards(old.header)) != len(cards(new.header)):
            yield f"{len(cards(old.header))} cards are {len(cards(new.header))}"
    if (old.data is None) != (new.data is None):
        yield "one has no data"
    elif isinstance(old, fits.BinTableHDU) and isinstance(new, fits.BinTableHDU):
        for name in sorted({*old.columns.names, *new.columns.names}):
            if name not in old.columns.names or name not in new.columns.names:
                yield f"only one has the column {name}"
                continue
            one, other = old.data[name], new.data[name]
            if one.dtype != other.dtype or one.shape != other.shape or one.tobytes() != other.tobytes():
                rows = [i for i in range(min(len(one), len(other))) if one[i].tobytes() != other[i].tobytes()]
                yield f"column {name} differs in {len(rows)} rows"
    elif old.data is not None and (
        old.data.dtype != new.data.dtype or old.data.shape != new.data.shape or old.data.tobytes() != new.data.tobytes()
    ):
        yield "the array has other bits"


def main(old, new):
    """Print what differs, HDU by HDU."""
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
