"""ASDF files of cubes: they hold everything of a cube, to the last bit."""

import itertools
import warnings
from pathlib import Path

from astropy.utils.exceptions import AstropyWarning

from esis_ndcube.io._writing import cube_size
from esis_ndcube.io.asdf.entry_points import get_extensions
from esis_ndcube.io.fits import CubeFileError
from esis_ndcube.utils.checks import check_cube, is_cube
from esis_ndcube.utils.output import temporary_output
from esis_ndcube.utils.parallel import own_warnings
from esis_ndcube.utils.whole import pass_scarcity

__all__ = ["read_asdf", "write_asdf"]

# The packages whose extensions write parts of a cube.
_NEEDED = {"asdf-astropy", "esis_ndcube", "gwcs", "ndcube"}
# Files of cubes have some thousand nodes, and hardly any aliases.
_ALIASED = 10**5


def write_asdf(cube, path, *, overwrite=False):
    """
    Write a cube to an ASDF file; ``cube.write("cube.asdf")`` does the same.

    The file is written under a temporary name and then moved, so that there never is half a file.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        A cube, or any part of a cube, also parts that FITS cannot express, for example one row.
    path : path-like
        The file.
    overwrite : `bool`, optional
        Whether to replace a file that exists.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is not set.
    ImportError
        If asdf is not installed, or could not load an extension.
    OSError
        If the file cannot be written.
    TypeError
        If the cube has metadata, extra coordinates or a PSF that the file cannot hold.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.time import Time
    >>> from esis_ndcube.cube import ESISCube
    >>> from esis_ndcube.wcs import level1_wcs
    >>> wcs = level1_wcs((5, 7), Time(["2019-09-30T18:08:00"]), [1, 2])
    >>> cube = ESISCube(np.zeros((1, 2, 5, 7)), wcs=wcs, unit="electron")
    >>> folder = getfixture("tmp_path")
    >>> cube[0, 1, 3].write(folder / "row.asdf")
    >>> ESISCube.read(folder / "row.asdf").shape
    (7,)
    """
    check_cube(cube)
    asdf = _asdf()
    with temporary_output(path, overwrite=overwrite, size=cube_size(cube)) as temporary:
        asdf.AsdfFile({"cube": cube}).write_to(temporary)


def read_asdf(path, cls, *, outline=False):
    """
    Read a cube from an ASDF file; ``ESISLevel3Cube.read("cube.asdf")`` does the same.

    Parameters
    ----------
    path : path-like
        A file that `write_asdf` wrote, or any other file with a cube under the key ``cube``.
    cls : `type`
        Class of the cube; `~esis_ndcube.cube.ESISCube` reads any.
    outline : `bool`, optional
        Whether to leave out the arrays, to see the contents of a file: the arrays of the cube are zeros and take no
        memory.
        Checksums are not verified.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        The cube, of the class that was written.

    Raises
    ------
    ~esis_ndcube.io.fits.CubeFileError
        If the file is not such a file, is damaged, or holds another class of cube.
    FileNotFoundError
        If there is no such file.
    MemoryError
        If there is not enough memory for the cube.
    ImportError
        If asdf is not installed, or could not load an extension.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.io.asdf import read_asdf
    >>> cube = read_asdf("l3.asdf", ESISLevel3Cube)  # doctest: +SKIP
    """
    asdf = _asdf()
    path = Path(path)
    with own_warnings(), path.open("rb") as stream:
        # asdf and the parsers of headers pass over some damage, which would leave broken parts of a cube.
        for category in (asdf.exceptions.AsdfConversionWarning, AstropyWarning):
            warnings.simplefilter("error", category)
        try:
            _check_aliases(path)
            options = {"lazy_load": outline, "validate_checksums": not outline}
            if outline:
                options["extensions"] = get_extensions(outline=True)
            with asdf.config_context() as config:
                # By default only older versions of asdf compare files with the schemas when they read.
                config.validate_on_read = True
                with asdf.open(stream, memmap=False, **options) as file:
                    cube = file.tree.get("cube")
        except Exception as error:  # damage can meet asdf, and the YAML parser under it, anywhere
            pass_scarcity(error, path)
            # Errors of schemas repeat the whole of what they refuse.
            msg = f"{path} is damaged or not ASDF: {error!s:.500}; get it again"
            raise CubeFileError(msg) from error
    if not is_cube(cube):
        msg = f"{path} is not a cube of esis_ndcube: it holds no cube under the key 'cube'"
        raise CubeFileError(msg)
    if not isinstance(cube, cls):
        kind = type(cube).__name__
        msg = f"{path} holds a cube of class {kind}, expected class {cls.__name__}: read it with {kind}.read"
        raise CubeFileError(msg)
    return cube


def _check_aliases(path):
    """Refuse a tree whose nested aliases stand for an unreasonable number of nodes, before it is walked through."""
    import yaml

    # Not the stream that asdf reads: a read here would take bytes for which asdf asks the system. The tree ends with
    # this line; arrays follow.
    with path.open("rb") as stream:
        text = b"".join(itertools.takewhile(lambda line: line.rstrip() != b"...", stream))
    written, whole, sizes, open_nodes = 0, 0, {}, [[None, 0]]
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append([event.anchor, 1])
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
            sizes[anchor] = size
            open_nodes[-1][1] += size
        elif isinstance(event, yaml.NodeEvent):
            # A node that holds itself has no size yet, and counts as one node.
            open_nodes[-1][1] += sizes.get(event.anchor, 1) if isinstance(event, yaml.AliasEvent) else 1
        written, whole = written + isinstance(event, yaml.NodeEvent), open_nodes[0][1]
    if whole - written > _ALIASED:
        msg = f"its aliases stand for {whole - written:.3g} nodes, expected at most {_ALIASED}"
        raise ValueError(msg)


def _asdf():
    try:
        import asdf_astropy  # noqa: F401  without it units and tables fail one by one

        import asdf
    except ModuleNotFoundError as error:
        msg = f"ASDF files need {error.name}, which is not installed: pip install 'esis_ndcube[asdf]'"
        raise ModuleNotFoundError(msg, name=error.name) from error
    # asdf goes on without an extension that fails to load, for example for lack of memory, and warns of it.
    if lacking := _NEEDED - {extension.package_name for extension in asdf.get_config().extensions}:
        msg = f"asdf could not load its extensions of {', '.join(sorted(lacking))}: its warnings say why"
        raise ImportError(msg)
    return asdf
