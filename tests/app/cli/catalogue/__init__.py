"""Tests of `app.cli.catalogue`."""
