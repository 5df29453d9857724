"""The page on the quality and the processing of a Level-3 cube."""

from esis_ndcube.report.page import write_report

__all__ = ["write_report"]
