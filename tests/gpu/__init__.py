"""What only a CUDA device can show: `python -m pytest -m gpu tests/gpu`.

Needs neither OpenVINO nor any program, so that it runs on a machine that has torch and little else.
"""
