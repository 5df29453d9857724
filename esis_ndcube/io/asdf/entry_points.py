"""The objects that asdf finds through the entry points of this package."""

from importlib.resources import files

__all__ = ["get_extensions", "get_resource_mappings"]


def get_resource_mappings():
    """
    Get the schemas and the manifest.

    Returns
    -------
    `list` of `~collections.abc.Mapping`
        Resources by URI.

    Examples
    --------
    >>> from esis_ndcube.io.asdf.entry_points import get_resource_mappings
    >>> [len(mapping) > 0 for mapping in get_resource_mappings()]
    [True, True]
    """
    from asdf.resource import DirectoryResourceMapping

    root = files("esis_ndcube.io.asdf") / "resources"
    return [DirectoryResourceMapping(root / name, f"asdf://esis-ndcube/{name}/") for name in ("schemas", "manifests")]


def get_extensions(*, outline=False):
    """
    Get the extension that converts cubes, their WCS, alignments and vignetting.

    Parameters
    ----------
    outline : `bool`, optional
        Whether the extension leaves out the arrays of cubes, as `~esis_ndcube.io.asdf.read_asdf` explains.

    Returns
    -------
    `list` of `~asdf.extension.Extension`
        One extension.

    Examples
    --------
    >>> from esis_ndcube.io.asdf.entry_points import get_extensions
    >>> get_extensions()[0].extension_uri
    'asdf://esis-ndcube/extensions/esis_ndcube-1.0.0'
    """
    from asdf.extension import ManifestExtension

    from esis_ndcube.io.asdf import _cube, _parts

    converters = [
        _cube.OutlineConverter() if outline else _cube.CubeConverter(),
        _cube.WCSConverter(),
        _cube.SlicedWCSConverter(),
        _parts.AlignmentConverter(),
        _parts.TransformConverter(),
        _parts.VignettingConverter(),
        _parts.FlightConverter(),
        _parts.ProcessingStepConverter(),
    ]
    return [
        ManifestExtension.from_uri("asdf://esis-ndcube/manifests/esis_ndcube-1.0.0", converters=converters),
    ]
