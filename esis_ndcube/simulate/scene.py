"""A quiet Sun for simulations: random scenes of network and grains that evolve slowly."""

import re
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.fft
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

__all__ = ["Recipe", "Sky", "recipe", "reference_recipe"]

_CELL = 30.0  # arcsec, a supergranule
_BLUR = 0.7  # arcsec, Gaussian width (sigma) of the telescope
_ROMAN = {"I": 1, "V": 5, "X": 10}


@dataclass(frozen=True)
class Recipe:
    """
    The mixture of random fields of unit variance that makes the logarithm of a scene.

    Attributes
    ----------
    name : `str`
        Name of the scene; scenes of one name are identical.
    contrast : `float`
        Standard deviation of the logarithm of the brightness.
    lanes, patches, grains : `float`
        Weights of the supergranular network, of patches of some 10 arcsec, and of grains of a few arcsec.
    kinship : `float`
        Correlation of the scene's patches with those of the parent.
    grain_kinship : `float`
        The same for grains.
    patch_scale, grain_scale : `float`
        Correlation lengths in arcsec.
    parent : `Recipe`, optional
        The scene that this scene is akin to; by default the main scene.
    """

    name: str
    contrast: float
    lanes: float
    patches: float
    grains: float
    kinship: float
    grain_kinship: float
    patch_scale: float = 6.0
    grain_scale: float = 2.2
    parent: "Recipe | None" = None


_MAIN = Recipe("main", 0.70, 0.42, 0.82, 0.30, 1.0, 1.0)
_REFERENCE = Recipe("reference", 0.60, 0.40, 0.80, 0.38, 0.48, 0.48)
# Names of the kinship and the scale of each kind of field.
_KINDS = {"patches": ("kinship", "patch_scale"), "grains": ("grain_kinship", "grain_scale")}
_RECIPES = {
    "chromosphere": Recipe("chromosphere", 0.58, 0.45, 0.82, 0.30, 0.82, 0.82),
    "transition": Recipe("transition", 0.65, 0.42, 0.80, 0.32, 0.9, 0.9),
    "corona": Recipe("corona", 0.50, 0.15, 0.85, 0.35, 0.1, 0.0, 14.0, 3.5),
}


def recipe(flight, line):
    """
    The recipe of a line's scene, by the stage of ionization in the line's name.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    line : `~esis_ndcube.flight.Line`
        The line.

    Returns
    -------
    `Recipe`
        The scene is chromospheric below stage III, coronal from stage IX, and of the transition region between.
    """
    if line.name == flight.pose_line:
        return _MAIN
    match = re.search(r"\b([IVX]+)\b", line.name)
    stage = _stage(match.group(1)) if match else 4
    return _RECIPES["chromosphere" if stage < 3 else "corona" if stage > 8 else "transition"]


def reference_recipe(flight, line):
    """
    The recipe of the scene of a line's reference, which is akin to the scene of the line.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    line : `~esis_ndcube.flight.Line`
        The line; all lines without a reference of their own share that of the pose line.

    Returns
    -------
    `Recipe`
        The scene.
    """
    if line.reference is None or line.name == flight.pose_line:
        return _REFERENCE
    parent = recipe(flight, line)
    alike = {name: getattr(parent, name) for name in ("lanes", "patch_scale", "grain_scale")}
    return replace(_REFERENCE, name=f"reference {line.reference.name}", parent=parent, **alike)


def _terms(recipe, kind):
    """Weights, names and scales of the random fields of one kind that a scene is made of."""
    if recipe is None or recipe == _MAIN:
        return [(1.0, f"main {kind}", getattr(_MAIN, _KINDS[kind][1]))]
    kinship, scale = (getattr(recipe, name) for name in _KINDS[kind])
    kin = [(kinship * weight, name, size) for weight, name, size in _terms(recipe.parent, kind)]
    return [*kin, (np.sqrt(1 - kinship**2), f"{recipe.name} {kind}", scale)]


def _stage(numeral):
    values = [_ROMAN[letter] for letter in numeral]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))


@dataclass(frozen=True, eq=False)
class Sky:
    """
    A square, periodic piece of the quiet Sun.

    A scene is the cubic B-spline with the coefficients that `scene` returns, a smooth and positive function
    of the coordinates: every channel samples the same function, so that sampling adds no error of position.

    Attributes
    ----------
    seed : `int`
        Seed of the random numbers.
    size : `float`
        Side of the square in arcsec.
    step : `float`
        Upper limit of the distance of coefficients in arcsec.
    """

    seed: int
    size: float
    step: float

    @cached_property
    def count(self):
        """Number of coefficients along one side (`int`)."""
        return scipy.fft.next_fast_len(int(np.ceil(self.size / self.step)), real=True)

    @cached_property
    def _lanes(self):
        # Edges of the cells of a random Voronoi tessellation, bent by a smooth random displacement.
        rng = self._rng("lanes")
        n = int(np.ceil(self.size / 1.2))
        points = rng.random((max(4, round((self.size / _CELL) ** 2)), 2)) * self.size
        spectrum = _spectrum(n, self.size, 12.0)
        bend = [5.0 * _gaussian_field(rng, spectrum) for _ in range(2)]
        y, x = np.mgrid[:n, :n] * (self.size / n)
        where = np.stack([x + bend[0], y + bend[1]], axis=-1) % self.size
        distance, _ = cKDTree(points, boxsize=self.size).query(where.reshape(-1, 2), k=2)
        lanes = np.exp(-(distance[:, 1] - distance[:, 0]) / 6.0).reshape(n, n)
        at = np.arange(self.count) * (n / self.count)
        lanes = map_coordinates(lanes, np.meshgrid(at, at, indexing="ij"), order=1, mode="grid-wrap")
        return ((lanes - lanes.mean()) / lanes.std()).astype(np.float32)

    @cached_property
    def _fields(self):
        return {}

    def _field(self, name, scale, angle):
        """A random field turned slowly into another one; cached by name."""
        if name not in self._fields:
            spectrum = _spectrum(self.count, self.size, scale)
            self._fields[name] = [_gaussian_field(self._rng(name, part), spectrum) for part in (0, 1)]
        first, second = self._fields[name]
        return np.float32(np.cos(angle)) * first + np.float32(np.sin(angle)) * second

    def _rng(self, *name):
        return np.random.default_rng([self.seed, *"/".join(map(str, name)).encode()])

    def scene(self, recipe, time):
        """
        B-spline coefficients of a scene.

        Parameters
        ----------
        recipe : `Recipe`
            The recipe of the mixture.
        time : `float`
            Time in seconds.

        Returns
        -------
        `numpy.ndarray`
            Coefficients, mean 1, shape (count, count), axes (y, x).
        """
        # Correlation of real O V frames: 0.99 after 10 s, 0.97 after 30 s, 0.92 after 90 s.
        turns = {"patches": time / 260.0, "grains": time / 75.0}
        total = np.float32(recipe.lanes) * self._lanes
        for kind in _KINDS:
            for part, name, scale in _terms(recipe, kind):
                if part:
                    weight = np.float32(getattr(recipe, kind) * part)
                    total += weight * self._field(name, scale, turns[kind])
        total *= np.float32(recipe.contrast / np.sqrt(recipe.lanes**2 + recipe.patches**2 + recipe.grains**2))
        scene = np.exp(total, out=total)
        scene /= scene.mean(dtype=np.float64)
        return scene

    def sample(self, scene, x, y):
        """
        Evaluate a scene.

        Parameters
        ----------
        scene : `numpy.ndarray`
            Coefficients from `scene`.
        x, y : `numpy.ndarray`
            Positions in arcsec from the middle of the square.

        Returns
        -------
        `numpy.ndarray`
            Brightness relative to the mean, of the shape of ``x``.
        """
        factor = self.count / self.size
        at = [np.asarray(value) * factor + self.count / 2 for value in (y, x)]
        return map_coordinates(scene, at, order=3, mode="grid-wrap", prefilter=False, output=np.float32)


def _spectrum(n, size, scale):
    """Root of a power that falls as k**-4 beyond 1 / scale, of fields of n x n values."""
    k = np.hypot(scipy.fft.fftfreq(n, size / n)[:, None], scipy.fft.rfftfreq(n, size / n))
    blur = np.exp(-2 * (np.pi * _BLUR * k) ** 2)
    return (blur / (1 + (2 * np.pi * scale * k) ** 2)).astype(np.float32)


def _gaussian_field(rng, spectrum):
    """A periodic random field of unit variance and of this spectrum."""
    n = len(spectrum)
    white = scipy.fft.rfft2(rng.standard_normal((n, n), dtype=np.float32))
    white *= spectrum
    white[0, 0] = 0
    field = scipy.fft.irfft2(white, s=(n, n))
    return field / field.std()
