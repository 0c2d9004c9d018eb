"""The browser's side: the page's files."""
