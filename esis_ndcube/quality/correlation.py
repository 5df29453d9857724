"""How well the channels of a cube correlate."""

from itertools import combinations

import numpy as np

from astropy.table import Table, join

from esis_ndcube.flags import Flag
from esis_ndcube.quality._cube import check, coefficient
from esis_ndcube.utils.arrays import invalid_pixels

__all__ = ["correlation_ratio", "correlation_table", "pair_correlation"]

_REGIONS = ("full", "octagon", "clean")


def pair_correlation(cube, *, region="full", clip=None):
    """
    Zero-lag correlation of every pair of channels in every exposure.

    A few bright points weigh as much in this correlation as all the rest of the Sun.
    On the 2019 flight Doppler shifts move one explosive event by up to 8 pixels between channels. This event lowers the
    correlation by more than the quadratic step of the alignment raises it. With images clipped at their 99.5th
    percentile, the quadratic step improves every pair of channels in every exposure.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).
    region : `str`, optional
        ``"full"``: the whole frame with NaN as 0, as the figures of the first flight were published;
        ``"octagon"``: where both channels are valid; ``"clean"``: there without overlapping lines.
    clip : `float`, optional
        Percentile of an image's valid pixels: larger values are set to this percentile. By default no values are
        clipped.

    Returns
    -------
    `~astropy.table.Table`
        A row per exposure and pair: ``frame_number``, ``first`` and ``second`` (channel numbers), ``correlation``.

    Raises
    ------
    ValueError
        If the region is unknown, the percentile is out of range, the cube does not have all four axes, or the region is
        ``"clean"`` and the cube has no flags.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import pair_correlation
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> float(pair_correlation(cube)["correlation"].mean())  # doctest: +SKIP
    0.9153
    >>> float(pair_correlation(cube, region="octagon", clip=99.5)["correlation"].mean())  # doctest: +SKIP
    0.8707
    """
    if region not in _REGIONS:
        msg = f"got region {region!r}, expected one of {', '.join(_REGIONS)}"
        raise ValueError(msg)
    _check_clip(clip)
    return _table(cube, {"correlation": (region, clip)})


def _table(cube, columns):
    """Columns of correlations in a region, of images that are clipped or not; every image is read once."""
    check(cube, flags=any(region == "clean" for region, _ in columns.values()))
    rows = []
    for time, frame_number in enumerate(cube.frame_number):
        bad = np.asarray(invalid_pixels(cube.data, cube.mask, time))
        data = np.asarray(cube.data[time])
        images = {clip: _images(data, bad, clip) for clip in {clip for _, clip in columns.values()}}
        values = [_correlations(images[clip], _left_out(cube, time, region, bad)) for region, clip in columns.values()]
        pairs = combinations([int(number) for number in cube.channel], 2)
        rows += [(int(frame_number), *pair, *row) for pair, *row in zip(pairs, *values, strict=True)]
    # Of a single channel there are no rows.
    names = "frame_number", "first", "second", *columns
    return Table(rows=rows or None, names=names, dtype=(int, int, int, *[float] * len(columns)))


def _left_out(cube, time, region, bad):
    """Pixels of an exposure that do not count in a region, shape (channel, y, x)."""
    if region == "full":
        return np.zeros_like(bad)
    return bad | (np.asarray(cube.flags[time]) & Flag.OVERLAP != 0) if region == "clean" else bad


def _correlations(images, bad):
    """Correlation of every pair of images, over the pixels that count in both."""
    for i, j in combinations(range(len(images)), 2):
        missing = images[i] is None or images[j] is None
        yield np.nan if missing else coefficient(images[i], images[j], ~(bad[i] | bad[j]))


def correlation_table(cube, *, clip=99.5):
    """
    Correlation of the channels in every region, side by side.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).
    clip : `float`, optional
        Percentile at which the images of the last column are clipped.

    Returns
    -------
    `~astropy.table.Table`
        A row per exposure and pair: ``frame_number``, ``first``, ``second``, and `pair_correlation` in the regions
        ``full``, ``octagon`` and ``clean``, and ``clipped``: in the region ``"octagon"`` with clipped images.

    Raises
    ------
    ValueError
        As `pair_correlation`, for example if the cube has no flags.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import correlation_table
    >>> correlation_table(ESISLevel3Cube.read("l3.fits")).pprint()  # doctest: +SKIP
    """
    _check_clip(clip)
    columns = {name: (name, None) for name in _REGIONS} | {"clipped": ("octagon", clip)}
    table = _table(cube, columns)
    for name in columns:
        table[name].info.format = ".4f"
    return table


def correlation_ratio(cube, other, *, region="full", clip=None):
    """
    Correlation of the channels of a cube, divided by the correlation in another cube, for every pair and exposure.

    With a cube of the final stage and one of the linear stage, the ratio shows the gain of the last step of the
    alignment.

    Parameters
    ----------
    cube, other : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x), with exposures and channels in common.
    region : `str`, optional
        The region, as for `pair_correlation`.
    clip : `float`, optional
        Percentile, as for `pair_correlation`.

    Returns
    -------
    `~astropy.table.Table`
        A row per exposure and pair of channels that both cubes have: ``frame_number``, ``first``, ``second``,
        ``correlation``, ``other`` (the correlation in the other cube) and ``ratio``.

    Raises
    ------
    ValueError
        If the cubes are of different flights or lines or have no pair in common, or as `pair_correlation`.

    Examples
    --------
    >>> from esis_ndcube import form_level3
    >>> from esis_ndcube.quality import correlation_ratio
    >>> final, linear = (form_level3(level1, aia, stage=name) for name in ("final", "linear"))  # doctest: +SKIP
    >>> (correlation_ratio(final, linear)["ratio"] > 1).all()  # doctest: +SKIP
    """
    for name in ("flight", "line"):
        first, second = (getattr(x, name) for x in (cube, other))
        if first != second:
            first, second = (getattr(x, "name", x) for x in (first, second))
            msg = f"got cubes of {name} {first} and {second}, expected two of one {name}"
            raise ValueError(msg)
    keys = ["frame_number", "first", "second"]
    tables = [pair_correlation(x, region=region, clip=clip) for x in (cube, other)]
    tables[1].rename_column("correlation", "other")
    # Empty tables cannot be joined.
    table = join(*tables, keys=keys) if all(map(len, tables)) else ()
    if not len(table):
        msg = (
            f"got cubes of frames {_numbers(cube.frame_number)}, channels {_numbers(cube.channel)}, and of frames "
            f"{_numbers(other.frame_number)}, channels {_numbers(other.channel)}, expected a pair of channels in common"
        )
        raise ValueError(msg)
    table["ratio"] = table["correlation"] / table["other"]
    for name in ("correlation", "other", "ratio"):
        table[name].info.format = ".4f"
    return table


def _check_clip(clip):
    if clip is not None and not 0 < clip <= 100:
        msg = f"got clip={clip!r}, expected a percentile above 0, at most 100, or None to leave the images as they are"
        raise ValueError(msg)


def _numbers(numbers):
    return ", ".join(map(str, numbers))


def _images(data, bad, clip):
    return [_image(image, ~mask, clip) for image, mask in zip(data, bad, strict=True)]


def _image(image, valid, clip):
    """The image, clipped, with 0 for values that are not finite; None if no value is finite."""
    finite = np.isfinite(image)
    if not finite.any():
        return None
    image = np.where(finite, image, 0)
    if clip is not None and valid.any():
        image = np.minimum(image, np.percentile(image[valid], clip))
    return image
