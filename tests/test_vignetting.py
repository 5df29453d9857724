"""The vignetting, against the formula by hand and the simulated flight."""

import tomllib

import numpy as np
import pytest

from astropy.io import fits
from astropy.table import Table

from esis_ndcube import ESIS_1, Vignetting
from esis_ndcube.mask import line_region
from esis_ndcube.simulate import simulate_flight

SLOPES = {1: 0.35, 2: 0.28, 3: 0.34, 4: 0.6}


@pytest.mark.parametrize("line", ["O V", "He I"])
def test_formula_by_hand(line):
    """r_0 = 345 and r_t = 684 arcsec, pixels of 0.734 arcsec; the middle of the stop of channel 2 from the file."""
    row = tomllib.loads(ESIS_1.toml)["channels"][1]
    stop = np.array({"O V": row["field_stop"], "He I": row["lines"][0]["field_stop"]}[line])
    middle = (stop[:, 0].min() + stop[:, 0].max()) / 2
    vignetting = Vignetting(SLOPES, ESIS_1, line)
    np.testing.assert_allclose(vignetting.evaluate(2, middle), 1 + 0.28 * 345 / 684, rtol=1e-12)
    # 684 arcsec toward shorter wavelength, which is smaller x.
    np.testing.assert_allclose(vignetting.evaluate(2, middle - 684 / 0.734), 1 + 0.28 * (345 + 684) / 684, rtol=1e-12)
    np.testing.assert_allclose(vignetting.evaluate(2, [middle + 345 / 0.734]), [1.0], rtol=1e-12)
    x = np.linspace(1000, 2000, 11).reshape(1, 11)
    values = vignetting.evaluate(4, x)
    assert values.shape == x.shape
    assert (np.diff(values[0]) < 0).all()
    assert np.isnan(vignetting.evaluate(4, np.nan))


@pytest.mark.parametrize("channel", [1, 2, 3, 4])
@pytest.mark.parametrize("line", ["O V", "He I"])
def test_never_brightens_inside_the_field_stop(channel, line):
    vignetting = Vignetting.of_flight(ESIS_1, line)
    assert vignetting.slopes == {c.number: c.vignetting_slope for c in ESIS_1.channels}
    assert vignetting.slopes[channel] > 0.1
    y, x = np.mgrid[0:1040:5, 0:2048:5]
    inside = line_region(ESIS_1, channel, line, x, y)
    values = vignetting.evaluate(channel, x)[inside]
    assert inside.any()
    assert values.min() > 0.99
    # Across the stop it falls by the slope, within the widths' difference.
    if line == "O V":
        assert abs(np.ptp(values) / vignetting.slopes[channel] - 1) < 0.06


def test_is_what_the_simulated_flight_has():
    simulated = simulate_flight(size=6)
    for line in ("O V", "He I"):
        vignetting = Vignetting.of_flight(simulated.flight, line)
        x = np.arange(simulated.flight.detector.shape[1])
        for channel in SLOPES:
            expected = simulated.truth.vignetting(channel, x, line=line)
            assert np.ptp(expected) > 0.1
            np.testing.assert_allclose(vignetting.evaluate(channel, x), expected, rtol=1e-12)
    # And what its pictures show: a frame with vignetting over the same without.
    plain = simulate_flight(size=6, vignetting=False)
    frame = simulated.frames[0]
    ratio = simulated.photons(frame, 4, line="O V") / np.maximum(plain.photons(frame, 4, line="O V"), 1e-6)
    rows, columns = ratio.shape
    y, x = np.mgrid[:rows, :columns]
    deep = line_region(simulated.flight, 4, "O V", x, y, margin=6)
    expected = Vignetting.of_flight(simulated.flight, "O V").evaluate(4, x)
    np.testing.assert_allclose(ratio[deep], expected[deep], rtol=0.02)
    np.testing.assert_allclose(np.median(ratio[deep] / expected[deep]), 1, rtol=1e-3)


def test_table(tmp_path):
    vignetting = Vignetting({4: 1 / 3, 2: -0.1}, ESIS_1, "hei", source="the d\u00e9j\u00e0 vu of 2026")
    assert vignetting.line == "He I"
    table = vignetting.to_table()
    again = Vignetting.from_table(table, ESIS_1)
    assert (again.slopes, again.line, again.source, again.flight) == (
        vignetting.slopes,
        vignetting.line,
        vignetting.source,
        ESIS_1,
    )
    # The numbers through a FITS table.
    fits.BinTableHDU(Table(table, meta={})).writeto(tmp_path / "a.fits")
    read = Table.read(tmp_path / "a.fits", hdu=1)
    read.meta.update(table.meta)
    assert Vignetting.from_table(read, ESIS_1).slopes == vignetting.slopes


def test_some_channels_only():
    vignetting = Vignetting({2: 0.5}, ESIS_1, "O V")
    assert vignetting.source == "given"
    assert vignetting.evaluate(2, 1500.0) > 1
    with pytest.raises(ValueError, match="got channel 3, expected one with a slope: 2"):
        vignetting.evaluate(3, 1500.0)


@pytest.mark.parametrize("slope", [1.2, -1.01, np.nan, np.inf])
def test_impossible_slope(slope):
    with pytest.raises(ValueError, match="for channel 2, expected -1 to 1"):
        Vignetting({1: 0.2, 2: slope}, ESIS_1, "O V")


def test_unknown_channel_and_line():
    with pytest.raises(ValueError, match="unknown channel 7"):
        Vignetting({7: 0.2}, ESIS_1, "O V")
    with pytest.raises(ValueError, match="O V, He I"):
        Vignetting({1: 0.2}, ESIS_1, "Fe XX")
    with pytest.raises(ValueError, match="O V, He I"):
        # A contaminant has no place of its own.
        Vignetting.of_flight(ESIS_1, "Mg X 609")


def test_slopes_are_its_own():
    slopes = {1: 0.2}
    vignetting = Vignetting(slopes, ESIS_1, "O V")
    slopes[1] = 0.9
    assert vignetting.slopes == {1: 0.2}
