"""Headers with every digit of their numbers."""

import numpy as np

from astropy.io import fits


def write_all_digits(header, wcs):
    """Put the numbers of a WCS in place of those of its header, which have 14 digits; in place."""
    exact = _exact_values(wcs.wcs, wcs.naxis)
    for index, card in enumerate(header.cards):
        value = exact.get(card.keyword)
        if value is not None and np.isfinite(value):
            text = f"{card.keyword:8}= {float(value)!r:>20} / {card.comment}"[:80]
            header._cards[index] = fits.Card.fromstring(text)


def _exact_values(prm, naxis):
    """Keyword to number, with all digits."""
    values = {
        "LONPOLE": prm.lonpole,
        "LATPOLE": prm.latpole,
        "MJDREF": sum(prm.mjdref),
        "XPOSURE": prm.xposure,
    }
    pc, cdelt = prm.get_pc(), prm.get_cdelt()
    for i in range(naxis):
        values |= {
            f"CRPIX{i + 1}": prm.crpix[i],
            f"CRVAL{i + 1}": prm.crval[i],
            f"CDELT{i + 1}": cdelt[i],
        }
        values |= {f"PC{i + 1}_{j + 1}": pc[i, j] for j in range(naxis)}
    values |= {f"PV{i}_{m}": value for i, m, value in prm.get_pv()}
    values |= {f"MJD-{name.upper()}": getattr(prm, f"mjd{name}") for name in ("obs", "beg", "avg", "end")}
    for name in ("hgln_obs", "hglt_obs", "crln_obs", "dsun_obs", "rsun_ref"):
        values[name.upper()] = getattr(prm.aux, name)
    return values
