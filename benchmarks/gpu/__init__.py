"""The GPU campaign: all that must be measured on a card before defaults are chosen, in one run of eight minutes.

    benchmarks/gpu.sh OUT [--rehearse]

Each part runs in a process of its own, because a CUDA context that is lost stays lost, and a part that hangs is ended.
What is measured is written at once: OUT/campaign.json and OUT/campaign.md are whole after every row.
"""
