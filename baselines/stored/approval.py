"""Approval of a stored baseline: a person's word for exactly this content.

A baseline that nobody looked at can be wrong for years and pass everything. Its approval holds the hash of the content,
so a session that is added or a figure that is edited makes it void. Gates warn of a baseline without one, and refuse it
when they are told to.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from baselines.stored.store import Approval, Baseline, text_of


def approve(baseline: Baseline, *, by: str, when: str, why: str) -> Baseline:
    """The baseline with an approval of what it holds now."""
    return replace(baseline, approval=Approval(by=by, when=when, why=why, content_sha256=_content_sha256(baseline)))


def approval_problem(baseline: Baseline) -> str | None:
    """Why nobody vouches for the baseline as it is; None where somebody does."""
    if baseline.approval is None:
        return "nobody has approved it"
    if baseline.approval.content_sha256 != _content_sha256(baseline):
        return f"it was changed after {baseline.approval.by} approved it ({baseline.approval.when})"
    return None


def _content_sha256(baseline: Baseline) -> str:
    return hashlib.sha256(text_of(replace(baseline, approval=None)).encode()).hexdigest()
