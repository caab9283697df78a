"""Every metric that there is: its kind, its labels and what it says. The table in examples/monitoring is compared with this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What Prometheus makes of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its kind, what it says, and its labels in the order of a row's values."""

    kind: Kind
    text: str
    labels: tuple[str, ...] = ()


FAMILIES: Final[Mapping[str, Family]] = {
    # No label holds what a client or a court can choose: order ids are short and of a-z, 0-9, dot, dash and underscore.
    "cdnblock_decisions_total": Family(Kind.COUNTER, "Requests, queries and connections, by what became of them; would: an order in mode report named them.", ("adapter", "measure", "action")),
    "cdnblock_decision_failures_total": Family(Kind.COUNTER, "Decisions that could not be made because something raised; what becomes of such a request is the operator's choice."),
    "cdnblock_orders": Family(Kind.GAUGE, "Orders, by where they are in their life and by mode.", ("state", "mode")),
    "cdnblock_names": Family(Kind.GAUGE, "Names that the orders list."),
    "cdnblock_names_in_force": Family(Kind.GAUGE, "Names that an order holds in force now."),
    "cdnblock_revision_info": Family(Kind.INFO, "The digest of the rules that are in force.", ("revision",)),
    "cdnblock_build_info": Family(Kind.INFO, "The version of cdnblock and of Python.", ("version", "python")),
    "cdnblock_next_change_timestamp_seconds": Family(Kind.GAUGE, "When decisions change next although no file does; absent when never."),
    "cdnblock_order_expires_timestamp_seconds": Family(Kind.GAUGE, "When an order ends, liftings left aside.", ("order",)),
    "cdnblock_order_deadline_timestamp_seconds": Family(Kind.GAUGE, "Until when an order that has not ended must be enforced by law: of its parts that are not in force yet the soonest, else the order's own.", ("order",)),
    "cdnblock_order_in_force": Family(Kind.GAUGE, "1 when an order and all its additions are enforced, 0 when a part is still to start or nothing is refused because its mode is report. Of orders that have not ended.", ("order",)),
    "cdnblock_reloads_total": Family(Kind.COUNTER, "Reloads in which something was different, by result: invalid leaves a file with an error behind, failed raised.", ("result",)),
    "cdnblock_reload_seconds": Family(Kind.GAUGE, "How long the last load took in which something was different."),
    "cdnblock_last_reload_timestamp_seconds": Family(Kind.GAUGE, "When something in the orders folder was last different."),
    "cdnblock_last_look_timestamp_seconds": Family(Kind.GAUGE, "When the orders folder was last looked at; every second where it is followed."),
    "cdnblock_file_errors": Family(Kind.GAUGE, "Files of the orders folder that have an error; the last good version of each stays in force."),
    "cdnblock_held_release": Family(Kind.GAUGE, "Files whose change would release so much that it waits for consent."),
    "cdnblock_held_names": Family(Kind.GAUGE, "Names in force that the held changes would release."),
    "cdnblock_state_folder_failing": Family(Kind.GAUGE, "1 when the last good orders cannot be kept on disk."),
    "cdnblock_geo_table_build_timestamp_seconds": Family(Kind.GAUGE, "The date of the country table; absent when it has none."),
    "cdnblock_audit_records_total": Family(Kind.COUNTER, "Records that were written to the audit trail."),
    "cdnblock_audit_write_errors_total": Family(Kind.COUNTER, "Attempts at writing to the audit trail that failed."),
    "cdnblock_audit_gaps_total": Family(Kind.COUNTER, "Gaps in the audit trail; each is a record of its own."),
    "cdnblock_audit_last_write_timestamp_seconds": Family(Kind.GAUGE, "When a record was last written to the audit trail; absent before the first."),
    "cdnblock_audit_failing": Family(Kind.GAUGE, "1 while the audit trail cannot be written."),
    "cdnblock_apply_in_step": Family(Kind.GAUGE, "1 when the engine that is kept in step goes by the orders as they are.", ("target",)),
    "cdnblock_apply_last_timestamp_seconds": Family(Kind.GAUGE, "When the engine was last seen to go by the orders; absent before that.", ("target",)),
    "cdnblock_apply_until_timestamp_seconds": Family(Kind.GAUGE, "Until when the engine's configuration is right; absent when for ever.", ("target",)),
    "cdnblock_apply_missing": Family(Kind.GAUGE, "Parts of orders that the engine cannot carry and that were agreed to be left out.", ("target",)),
    "cdnblock_dns_queries_total": Family(Kind.COUNTER, "Queries by outcome.", ("outcome",)),
    "cdnblock_dns_udp_total": Family(Kind.COUNTER, "What happened over UDP.", ("event",)),
    "cdnblock_dns_tcp_total": Family(Kind.COUNTER, "What happened over TCP.", ("event",)),
    "cdnblock_dns_tls_total": Family(Kind.COUNTER, "What happened over TLS.", ("event",)),
    "cdnblock_dns_https_total": Family(Kind.COUNTER, "What happened over HTTPS.", ("event",)),
    "cdnblock_dns_unanswered_total": Family(Kind.COUNTER, "Queries that no upstream answered in time."),
    "cdnblock_dns_dropped_total": Family(Kind.COUNTER, "Queries that were dropped because too many waited for upstreams."),
    "cdnblock_dns_in_circles_total": Family(Kind.COUNTER, "Queries that came back to the front that had forwarded them."),
    "cdnblock_dns_unasked_answers_total": Family(Kind.COUNTER, "Answers to nothing that was asked: late ones, or forged ones."),
    "cdnblock_dns_disbelieved_answers_total": Family(Kind.COUNTER, "Answers whose question is not the one that was asked."),
    "cdnblock_dns_outstanding": Family(Kind.GAUGE, "Queries that wait for an upstream now."),
    "cdnblock_dns_connections": Family(Kind.GAUGE, "Connections of clients that are open now."),
    "cdnblock_dns_workers": Family(Kind.GAUGE, "Workers that reply."),
    "cdnblock_dns_worker_restarts_total": Family(Kind.COUNTER, "Workers that died or hung, and were replaced."),
    "cdnblock_dns_upstream_up": Family(Kind.GAUGE, "1 when all workers take an upstream for one that answers.", ("upstream",)),
    "cdnblock_dns_upstream_failures_total": Family(Kind.COUNTER, "Questions to an upstream that brought no answer.", ("upstream", "kind")),
    "cdnblock_dns_upstream_seconds": Family(Kind.HISTOGRAM, "How long an upstream takes to answer.", ("upstream",)),
}  # fmt: skip
