"""Tests of `model.catalogue`."""
