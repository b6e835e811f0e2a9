"""The gateway's own metrics. Names are documented in docs/metrics.md; no label ever holds an address or an id."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

DISPATCHED = Counter("mailvet_batches_dispatched", "Batches published and confirmed.")
TAKEN_BACK = Counter("mailvet_batches_taken_back", "Batches that went back to pending.", ["why"])
GIVEN_UP = Counter("mailvet_batches_given_up", "Batches closed as unknown after too many lost attempts.")
RECORDED = Counter("mailvet_results_recorded", "Addresses whose result was stored.", ["status"])
PUT_OFF = Counter("mailvet_results_put_off", "Addresses sent back for a second look.")
DROPPED = Counter("mailvet_results_dropped", "Result messages that changed nothing.", ["why"])
RECORD_SECONDS = Histogram(
    "mailvet_record_seconds",
    "From taking a result message to its acknowledgement.",
    buckets=(0.002, 0.01, 0.05, 0.25, 1, 5, 30),
)
TALLY_SECONDS = Histogram("mailvet_tally_seconds", "One count of a file.", buckets=(0.002, 0.01, 0.05, 0.25, 1, 5))
FINISHED = Counter("mailvet_files_finished", "Files that reached their end.", ["status"])
ANNOUNCE_LOST = Counter("mailvet_announcements_lost", "Live news that Redis did not take.")
STREAMS = Gauge("mailvet_event_streams", "Event streams open now.")
STREAMS_DROPPED = Counter("mailvet_event_streams_dropped", "Event streams ended because their reader was too slow.")
LOOP_FAILURES = Counter("mailvet_loop_failures", "A background loop failed and was started again.", ["loop", "error"])
STRIPE_EVENTS = Counter("mailvet_stripe_events", "Events of Stripe's that were acted upon.", ["type"])
RECONCILED = Counter("mailvet_reconciled_payments", "Payments that reconciliation found missing.", ["outcome"])
BILLING_ALERTS = Counter("mailvet_billing_alerts", "Things about money that somebody has to look at.", ["what"])
WEBHOOK_TRIES = Counter("mailvet_webhook_tries", "Tries to deliver an event to a webhook.", ["outcome"])
