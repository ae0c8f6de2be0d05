"""What a person reads before deciding: one HTML page, one Markdown description, one picture."""

from registry.report.description import markdown
from registry.report.page import html
from registry.report.picture import search_picture
from registry.report.review import Review

__all__ = ["Review", "html", "markdown", "search_picture"]
