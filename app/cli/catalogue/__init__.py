"""Catalogues as operators have them: under paths and URLs, scored with the service's settings."""
