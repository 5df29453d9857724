"""Where files go."""

from pathlib import Path

from sunpy import config

__all__ = ["target_path"]


def target_path(path, name, row):
    """
    Where a file goes, as `sunpy.net.Fido` has it.

    Parameters
    ----------
    path : path-like or None
        A folder, or a pattern with ``{file}`` and names of columns; by default sunpy's folder for downloads.
    name : `str`
        Name of the file.
    row : `~sunpy.net.base_client.QueryResponseRow`
        The file's row.

    Returns
    -------
    `pathlib.Path`
        The path.

    Raises
    ------
    ValueError
        If the pattern has names that are no columns.

    Examples
    --------
    >>> from esis_ndcube.net.paths import target_path
    >>> target_path("aia", "a.fits", None).as_posix()
    'aia/a.fits'
    """
    pattern = Path(config.get("downloads", "download_dir") if path is None else path).expanduser()
    if "{file}" not in str(pattern):
        return pattern / name
    known = {**row.response_block_map, "file": name}
    try:
        return Path(str(pattern).format(**known))
    except KeyError as error:
        msg = f"got {error} in the pattern {str(pattern)!r}, expected names out of {', '.join(known)}"
        raise ValueError(msg) from error
