"""Uncertainties of every kind, by way of the standard deviation."""

import warnings

import numpy as np

from astropy.nddata import InverseVariance, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from ndcube.utils.exceptions import NDCubeUserWarning
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube.utils.arrays import elementwise, wide


def _same(x):
    return x


def _inverse_square(x):
    return 1 / np.square(x)


def _inverse_root(x):
    return 1 / np.sqrt(x)


# Functions from the standard deviation to the numbers of each kind of uncertainty, and back.
_KINDS = {
    StdDevUncertainty: (_same, _same),
    VarianceUncertainty: (np.square, np.sqrt),
    InverseVariance: (_inverse_square, _inverse_root),
}


def standard_deviation(nddata, unit=None):
    """
    Standard deviations of the data, in ``unit`` if it is given, or None if there are none.

    An uncertainty of unknown kind also gives None, with a warning. An inverse variance of 0 is an infinite error. The
    error from a negative variance is not known, and is NaN.
    """
    uncertainty = nddata.uncertainty
    if uncertainty is None or uncertainty.array is None:
        return None
    if type(uncertainty) not in _KINDS:
        warn_without_uncertainty(f"it is an {UnknownUncertainty.__name__}, of which nothing is known")
        return None
    sigma = elementwise(_KINDS[type(uncertainty)][1], _floats(uncertainty.array))
    own = uncertainty.unit
    if unit is None or own is None:
        return sigma
    factor = _KINDS[type(uncertainty)][1]((1 * own).to_value(_unit_of(type(uncertainty), unit)))
    return sigma if factor == 1 else sigma * factor


def _unit_of(kind, unit):
    return {StdDevUncertainty: unit, VarianceUncertainty: unit**2}.get(kind, unit**-2)


def make_uncertainty(like, sigma):
    """An uncertainty of the same kind as another one, or None."""
    if sigma is None:
        return None
    kind = type(like) if type(like) in _KINDS else StdDevUncertainty
    return kind(elementwise(_KINDS[kind][0], sigma), copy=False)


def _floats(array):
    """The array in floating-point numbers that can hold its squares."""
    return array.astype(float) if array.dtype.kind in "biu" else wide(array)


class LostUncertaintyWarning(NDCubeUserWarning, SunpyUserWarning):
    """A result has no uncertainty: users filter this warning like those of ndcube and of sunpy."""


def warn_without_uncertainty(why):
    """Warn that a result has no uncertainty."""
    warnings.warn(f"the result has no uncertainty: {why}", LostUncertaintyWarning, stacklevel=2)
