"""
Clients of `sunpy.net.Fido`: raw frames of a flight, and images of other telescopes nearest to its exposures.

Importing this module registers the clients and their attributes, as ``a.esis``; ``import esis_ndcube`` alone does not.
"""

from esis_ndcube.net import attrs
from esis_ndcube.net.context import ContextResponse, ESISContextClient
from esis_ndcube.net.download import ArchiveError
from esis_ndcube.net.flight import ESISFlightClient, FlightResponse
from esis_ndcube.net.retry import RetryPolicy

__all__ = [
    "ArchiveError",
    "ContextResponse",
    "ESISContextClient",
    "ESISFlightClient",
    "FlightResponse",
    "RetryPolicy",
    "attrs",
]
