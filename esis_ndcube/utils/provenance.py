"""The steps of the processing of a cube, in their order."""

import functools
import json
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

__all__ = ["ProcessingStep", "package_version"]


# The look-up takes longer than the rest of a step.
@functools.cache
def package_version():
    """
    Version of this package.

    Returns
    -------
    `str`
        The version, or ``"unknown"`` if the package is not installed.

    Examples
    --------
    >>> from esis_ndcube.utils.provenance import package_version
    >>> isinstance(package_version(), str)
    True
    """
    try:
        return version("esis_ndcube")
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True)
class ProcessingStep:
    """
    One operation that was applied to a cube.

    Attributes
    ----------
    name : `str`
        Name of the operation.
    parameters : `dict`
        Its parameters: strings, numbers, booleans, None, and lists and dictionaries of them.
    version : `str`
        Version of this package that did the operation; by default the present version.

    Raises
    ------
    TypeError
        If the parameters cannot be written as JSON.

    Examples
    --------
    >>> from esis_ndcube.utils.provenance import ProcessingStep
    >>> print(ProcessingStep("bias", {"columns": [21, 50]}, "1.0"))
    bias(columns=[21, 50])
    """

    name: str
    parameters: dict = field(default_factory=dict)
    version: str = field(default_factory=package_version)

    def __post_init__(self):
        try:
            # The parameters that a file gives back: tuples become lists, so that a step read from a file equals the one
            # written.
            parameters = json.loads(json.dumps(dict(self.parameters)))
        except (TypeError, ValueError) as error:
            msg = f"got parameters {self.parameters!r} of step {self.name!r}, expected JSON values ({error})"
            raise TypeError(msg) from error
        object.__setattr__(self, "parameters", parameters)

    def __str__(self):
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.parameters.items())})"

    def to_json(self):
        """
        Write the step as text.

        Returns
        -------
        `str`
            JSON, for `from_json`.

        Examples
        --------
        >>> from esis_ndcube.utils.provenance import ProcessingStep
        >>> ProcessingStep("despike", {"threshold": 7.0}, "1.0").to_json()
        '{"name": "despike", "version": "1.0", "parameters": {"threshold": 7.0}}'
        """
        return json.dumps({"name": self.name, "version": self.version, "parameters": self.parameters})

    @classmethod
    def from_json(cls, text):
        """
        Read the step from text.

        Parameters
        ----------
        text : `str`
            The text of `to_json`.

        Returns
        -------
        `ProcessingStep`
            The step.

        Examples
        --------
        >>> from esis_ndcube.utils.provenance import ProcessingStep
        >>> step = ProcessingStep("despike", {"threshold": 7.0})
        >>> ProcessingStep.from_json(step.to_json()) == step
        True
        """
        return cls(**json.loads(text))
