"""The page that shows how good a Level-3 cube is, and how it was made."""

from esis_ndcube.report.page import write_report

__all__ = ["write_report"]
