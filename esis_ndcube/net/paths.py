"""The places of files."""

from pathlib import Path

from parfive.utils import replacement_filename

from sunpy import config

from esis_ndcube.utils.checks import is_plain_name

__all__ = ["require_columns", "target_path"]


def require_columns(response, names):
    """
    Refuse a part of a result that lacks columns for the fetch.

    Parameters
    ----------
    response : `~sunpy.net.base_client.QueryResponseTable`
        The result of a search.
    names : `list` of `str`
        The columns that are needed.

    Raises
    ------
    ValueError
        If some columns are missing.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from esis_ndcube.net.paths import require_columns
    >>> require_columns(QTable({"Time": [1, 2]}), ["URL"])
    Traceback (most recent call last):
        ...
    ValueError: got a table without URL, expected all columns of the result of a search: fetch that, or rows of it
    """
    lacking = [name for name in names if name not in response.colnames]
    if lacking:
        msg = (
            f"got a table without {', '.join(lacking)}, expected all columns of the result of a search: fetch that, or "
            "rows of it"
        )
        raise ValueError(msg)


def target_path(path, name, row, *, unique=False):
    """
    The path of a file, as `sunpy.net.Fido` makes it.

    Parameters
    ----------
    path : path-like or None
        A folder, or a pattern with ``{file}`` and names of columns; by default sunpy's folder for downloads.
    name : `str`
        Name of the file.
    row : `~sunpy.net.base_client.QueryResponseRow`
        The file's row.
    unique : `bool`, optional
        Whether to number a path that is taken, as parfive does.

    Returns
    -------
    `pathlib.Path`
        The path.

    Raises
    ------
    ValueError
        If the name is that of a folder or leads to another folder, or the pattern cannot be filled in, for example
        because it has names that are no columns.

    Examples
    --------
    >>> from esis_ndcube.net.paths import target_path
    >>> target_path("aia", "a.fits", None).as_posix()
    'aia/a.fits'
    """
    if not is_plain_name(name):
        # Names come from flight files and from servers.
        msg = f"got the file {name!r}, expected a name without folders: nothing is written outside of {path}"
        raise ValueError(msg)
    pattern = Path(config.get("downloads", "download_dir") if path is None else path).expanduser()
    target = pattern / name
    if "{file}" in str(pattern):
        known = {**row.response_block_map, "file": name}
        try:
            target = Path(str(pattern).format(**known))
        except (KeyError, IndexError, AttributeError, ValueError) as error:
            msg = f"got {error} in the pattern {str(pattern)!r}, expected names out of {', '.join(known)}"
            raise ValueError(msg) from error
    return replacement_filename(target) if unique else target
