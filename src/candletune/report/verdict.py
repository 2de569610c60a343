"""The verdict in words, and each criterion as a row with its picture."""

from collections.abc import Mapping
from typing import Any

from candletune.report.svg import strip
from candletune.report.text import is_number, number, percent, plain, points

SENTENCES = {
    "promote": ("Promote the candidate.", "good"),
    "keep": ("Keep the incumbent.", "bad"),
    "not enough evidence": ("Not enough evidence yet.", "wait"),
}


def verdict_view(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's head shows."""
    sentence, tone = SENTENCES.get(str(verdict.get("verdict")), (plain(verdict.get("verdict")), "wait"))
    criteria = [criterion_view(item) for item in verdict.get("criteria", [])]
    return {
        "sentence": sentence,
        "tone": tone,
        "reason": _sentence(str(verdict.get("reason", ""))),
        "forced": bool(verdict.get("forced")),
        "notes": [str(note) for note in verdict.get("notes") or []],
        "criteria": criteria,
        "passed": sum(item["state"] == "pass" for item in criteria),
        "open": sum(item["state"] == "open" for item in criteria),
        "candidate": dict(verdict.get("candidate") or {}),
        "incumbent": dict(verdict.get("incumbent") or {}),
    }


def criterion_view(item: Mapping[str, Any]) -> dict[str, Any]:
    """One criterion: its number, interval and limit in its own unit."""
    value, limit, bounds = item.get("value"), item.get("limit"), _pair(item.get("interval"))
    show = _formatter(item)
    passed = item.get("passed")
    return {
        "name": str(item.get("name", "")),
        "description": str(item.get("description", "")),
        "value": show(value),
        "limit": show(limit),
        "interval": f"{show(bounds[0])} to {show(bounds[1])}" if bounds else "",
        "kind": "evidence" if item.get("kind") == "evidence" else "plan",
        "state": "pass" if passed is True else "fail" if passed is False else "open",
        "strip": strip(value, bounds, limit, show),
    }


def _sentence(reason: str) -> str:
    text = reason.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) or not text else ".")


def _pair(bounds: Any) -> tuple[float, float] | None:
    if isinstance(bounds, list | tuple) and len(bounds) == 2 and all(is_number(bound) for bound in bounds):
        return float(bounds[0]), float(bounds[1])
    return None


def _formatter(item: Mapping[str, Any]) -> Any:
    unit = item.get("unit")
    if unit == "points":
        return points
    if unit == "share":
        return percent
    if unit == "count":
        return lambda value: number(value, 0 if is_number(value) and abs(value) >= 100 else 1)
    return lambda value: number(value) if is_number(value) else plain(value)
