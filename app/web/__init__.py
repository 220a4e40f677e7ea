"""The page for people. It calls the public HTTP interface alone, from the browser."""
