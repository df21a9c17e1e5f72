"""The evaluation report of a variant as a page that needs nothing but itself."""

from app.web.report.page import render_report
from app.web.report.verdict import verdict

__all__ = ["render_report", "verdict"]
