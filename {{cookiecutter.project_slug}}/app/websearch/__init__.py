"""Web search, and web pages as Markdown."""
