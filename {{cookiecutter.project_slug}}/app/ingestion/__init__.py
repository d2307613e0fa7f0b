"""Getting documents in: search, pages as Markdown, files, and splitting them."""
