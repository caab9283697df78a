"""An order's report as JSON: every value, nothing cut. Instants are RFC 3339 in the order's legal time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cdnblock.reports.compliance import Compliance
from cdnblock.reports.order import PROVES_NOT, LiftingReport, NoticeReport, OrderReport, Stated, TrailReport
from cdnblock.reports.trail_values import local


def as_json(report: OrderReport) -> dict[str, Any]:
    """Return the report as JSON has it."""
    order, writer = report.order, _Writer(ZoneInfo(report.order.timezone))
    at = writer.instant
    return {
        "report": "cdnblock order, version 1",
        "made_at": at(report.made_at),
        "software": report.software,
        "order": {
            "id": order.id,
            "title": order.title,
            "court": order.court,
            "case": order.case,
            "decided": order.decided.isoformat(),
            "legal_basis": order.legal_basis,
            "claimant": order.claimant,
            "addressee": order.addressee,
            "member_state": order.member_state,
            "illegal_content": order.illegal_content,
            "publication": order.publication,
            "penalty": None
            if order.penalty is None
            else {
                "amount": str(order.penalty.amount),
                "currency": order.penalty.currency,
                "per": order.penalty.per,
            },
            "costs": order.costs,
            "contact": order.contact,
            "timezone": order.timezone,
            "mode": order.mode.value,
            "file": str(order.position) if order.position else None,
        },
        "state": report.state.value,
        "measures": {measure.value: variant for measure, variant in order.measures.items()},
        "territory": "world" if order.territory.world else dict(report.territory),
        "unknown_location": order.unknown_location.value,
        "windows": [{"from": at(begins), "until": at(until)} for begins, until in report.windows],
        "times": {
            "received": writer.stated(report.received),
            "acknowledged": writer.stated(report.acknowledged),
            "served": writer.stated(report.served),
            "implemented": writer.stated(report.implemented),
            "starts": at(report.starts),
            "ends": at(report.ends),
            "over": at(report.over),
            "first_enforced": at(report.first_enforced),
            "last_enforced": at(report.last_enforced),
            "end_took_effect": [at(ended) for ended in report.ended],
        },
        "deadline": writer.compliance(report.compliance),
        "names": [
            {
                "notice": group.notice,
                "subdomains": group.subdomains,
                "from": at(group.since),
                "until": at(group.until),
                "lifted": group.lifted,
                "names": list(group.names),
            }
            for group in report.names
        ],
        "remarks": [
            {"name": remark.name, "note": remark.note, "overbroad": remark.overbroad} for remark in report.remarks
        ],
        "notices": [writer.notice(notice) for notice in report.notices],
        "liftings": [writer.lifting(lifting) for lifting in report.liftings],
        "hits": [
            {
                "day": row.day.isoformat(),
                "country": row.country,
                "measure": row.measure,
                "enforced": row.enforced,
                "would": row.would,
            }
            for row in report.hits
        ],
        "trails": [writer.trail(trail, report.over) for trail in report.trails],
        "warnings": list(report.warnings),
        "proves_not": list(PROVES_NOT),
    }


class _Writer:
    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone

    def instant(self, at: datetime | None) -> str | None:
        return None if at is None else local(at, self._zone).isoformat()

    def stated(self, stated: Stated | None) -> dict[str, Any] | None:
        return None if stated is None else {"written": stated.written.isoformat(), "at": self.instant(stated.at)}

    def compliance(self, found: Compliance) -> dict[str, Any]:
        return {
            "deadline": self.instant(found.deadline),
            "verdict": found.verdict.value,
            "begun": self.instant(found.begun),
            "not_before": self.instant(found.not_before),
            "source": found.source.value if found.source else None,
            "late_by_seconds": None if found.late_by is None else int(found.late_by / timedelta(seconds=1)),
            "because": found.because,
        }

    def notice(self, notice: NoticeReport) -> dict[str, Any]:
        return {
            "notice": notice.notice,
            "authority": notice.authority,
            "notified": self.stated(notice.notified),
            "starts": self.instant(notice.starts),
            "names": notice.names,
            "deadline": self.compliance(notice.compliance),
            "first_enforced": self.instant(notice.first_enforced),
        }

    def lifting(self, lifting: LiftingReport) -> dict[str, Any]:
        return {
            "at": self.stated(lifting.at),
            "names": None if lifting.names is None else list(lifting.names),
            "reason": lifting.reason,
            "took_effect": [self.instant(at) for at in lifting.took_effect],
        }

    def trail(self, trail: TrailReport, over: datetime) -> dict[str, Any]:
        facts = trail.facts
        return {
            "folder": str(facts.path),
            "whole": trail.whole,
            "records": trail.records,
            "head": trail.head,
            "findings": list(trail.findings),
            "notes": list(trail.notes),
            "first_record": self.instant(facts.first_at),
            "last_record": self.instant(facts.last_at),
            "in_force": self.instant(facts.in_force.at if facts.in_force else None),
            "first_enforced": self.instant(facts.first_enforced),
            "last_enforced": self.instant(facts.last_enforced),
            "runs": list(facts.runs),
            "files": [item for record in facts.files for item in record.get("files") or ()],
            "gaps": [
                {"from": self.instant(gap.since), "to": self.instant(gap.until), "what": gap.what} for gap in facts.gaps
            ],
            "pauses": [{"from": self.instant(pause.since), "to": self.instant(pause.until)} for pause in facts.pauses],
            "out_of_force": [
                {"from": self.instant(since), "to": self.instant(back.at if back else None)}
                for since, back in facts.absences
                if since < over
            ],
            "clock_steps": list(facts.clock_steps),
            "left_out": dict(facts.left_out),
        }
