"""Blind listening sets: build one page from runs, collect answers on a lab's machine, unblind and analyse."""
