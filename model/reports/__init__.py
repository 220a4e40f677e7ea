"""Reports for people: plots and HTML pages."""
