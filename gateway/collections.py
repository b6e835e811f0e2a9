"""Every collection of the document store, its indexed fields and the shape of its documents.

The gateway is the only owner of these. Times are float seconds since the epoch; ids are strings.
"""

from __future__ import annotations

from shared.documents import Collection

# One per file (a list upload, a validate-batch call, or a single address that took longer than its caller could wait).
# {_id, fileId, orgId, kind: upload|batch|single, filename, status, createdAt, startedAt, finishedAt, expiresAt,
#  totalEmails, uniqueEmails, duplicates, malformed, creditsReserved, creditsCharged, totalBatches, completedBatches,
#  processed, valid, invalid, risky, unknown, billable, reasons: {},
#  domains: [domain, valid, invalid, risky, unknown, domain, ...], eta: {at, seconds}, aliveUntil (while receiving),
#  outcome (from settling on), event: {id, type, at}, eventState: pending (until the webhooks took it), erasedAt,
#  eraseState: running|done, table: {...how to read the upload again...}, callbackUrl, settled, failure,
#  test: true (made with a test key; else missing)}
# status (gateway/batches/state.py): receiving -> queued -> processing <-> paused -> settling
#  -> completed | cancelled | failed
FILES = Collection(
    "EmailBatches",
    indexed=("orgId", "status", "createdAt", "settled", "expiresAt", "kind", "eraseState", "eventState", "test"),
    indexes=(
        ("orgId", "createdAt"),
        ("status", "createdAt"),
        ("settled", "createdAt"),
        ("expiresAt",),
        ("eraseState",),
        ("eventState", "createdAt"),
    ),
)

# One per batch, work and results in one document, so that recording a result is one atomic write.
# {_id: batchId, batchId, fileId, orgId, no, status: pending|dispatched|done|cancelled, attempt, look, lookAttempt,
#  waits (turns that were no look at some), dueAt, leaseUntil, dispatchedAt, confirmedAt,
#  lost (attempts that vanished in this look), domain (of all its addresses; empty: they have several),
#  recordedAt (0: no results yet), emails: [addresses still to be verified], rows: [their upload rows], processedEmails,
#  results: [Result + {"row": n}], summary: {valid, invalid, risky, unknown, billable, reasons: {}, domains: []}}
BATCHES = Collection(
    "EmailResults",
    indexed=(
        "fileId",
        "orgId",
        "no",
        "status",
        "domain",
        "dueAt",
        "leaseUntil",
        "recordedAt",
        "processedEmails",
        "summary",
    ),
    indexes=(
        ("fileId", "no"),
        ("fileId", "status", "dueAt"),
        ("status", "dueAt"),
        ("status", "leaseUntil"),
        ("fileId", "recordedAt", "status", "processedEmails", "summary"),
    ),
)

# Append-only, never changed: {_id: "{kind}:{cause}" (a single charge: "charge:{cause}"), orgId, kind, credits,
#  amount (change of the balance), reserved (change of what is held), fileId, cause, at}
CREDIT_ENTRIES = Collection("CreditEntries", indexed=("orgId", "at"), indexes=(("orgId", "at"),))
# {_id: orgId, balance, reserved, available: balance - reserved, holds: {fileId: n}, version, epoch,
#  recent: [movement ids], outbox: [{entries: [of a movement, not yet certainly in CREDIT_ENTRIES]}]}
CREDIT_ACCOUNTS = Collection("CreditAccounts")

# {_id: orgId, name, createdAt, plan, retentionDays, lowCreditsBelow, lowCredits: {low, times}, lowCreditsEvent: {id,
#  at, available, below}, stripeCustomer}
ORGANISATIONS = Collection("Organisations", indexed=("createdAt",))
# {_id: "{orgId}:{userId}", orgId, userId, email, role: owner|admin|member|viewer, createdAt, removedAt}
MEMBERS = Collection("Members", indexed=("orgId", "userId"), indexes=(("orgId",), ("userId",)))
# {_id: SHA-256 of the key, keyId, orgId, name, prefix, scopes, test, bootstrap, createdAt, createdBy, expiresAt,
#  revokedAt, revokedBy, lastUsedAt, allowedNetworks}
API_KEYS = Collection(
    "ApiKeys", indexed=("orgId", "createdAt", "keyId"), indexes=(("orgId", "createdAt"), ("orgId", "keyId"))
)
# {_id: "{orgId}:{SHA-256 of the key}", orgId, requestHash, resourceId, state: running|done, runner, leaseUntil,
#  createdAt, answer: {status, headers, body (sealed)}}
IDEMPOTENCY_KEYS = Collection("IdempotencyKeys", indexed=("createdAt",), indexes=(("createdAt",),))
# Append-only: {_id, orgId, at, actor, action, target, detail}
AUDIT = Collection("AuditLog", indexed=("orgId", "at"), indexes=(("orgId", "at"),))
# {_id: "{orgId}:{keyed hash of the normalised address}", orgId, at}
SUPPRESSED = Collection("Suppressed", indexed=("orgId", "at"), indexes=(("orgId", "at"),))
# Stripe inbox: {_id: event id, type, objectId, receivedAt, handledAt (0: not yet), tries, dueAt}
STRIPE_EVENTS = Collection("StripeEvents", indexed=("handledAt", "receivedAt"), indexes=(("handledAt", "receivedAt"),))
# What we sold: {_id: checkout session, orgId, pack, credits, quantity, amount, currency, priceId, createdAt}
STRIPE_CHECKOUTS = Collection("StripeCheckouts")
# What was paid, and what of it was paid back: {_id: payment intent (or what stands for it), orgId, credits, amount,
#  cause, refunded, disputes: {id: status}, taken (credits taken back), steps: [credits],
#  version}; gateway/billing/payments.py
STRIPE_PAYMENTS = Collection("StripePayments")
# {_id: orgId, enabled, threshold, pack, dailyCap, day, today (recharges begun on that day), openId, stopped (why)}
AUTO_RECHARGES = Collection("AutoRecharges", indexed=("enabled",), indexes=(("enabled",),))
# {_id, orgId, pack, credits, amount, currency, customer, card, state: open|paid|declined, intent, createdAt}
RECHARGES = Collection("Recharges", indexed=("orgId", "createdAt"), indexes=(("orgId", "createdAt"),))
# {_id, orgId, kind: endpoint|callback, url, description, events, secret, oldSecret, oldSecretUntil, createdAt,
#  disabledAt, disabledWhy, failingSince, test: true (made with a test key; else missing)}
WEBHOOK_ENDPOINTS = Collection("WebhookEndpoints", indexed=("orgId", "createdAt"), indexes=(("orgId", "createdAt"),))
# One per event and endpoint: {_id: "{eventId}:{endpointId}", orgId, endpointId, event, body, state, tries, dueAt,
#  log: [...]}
WEBHOOK_DELIVERIES = Collection(
    "WebhookDeliveries",
    indexed=("orgId", "endpointId", "state", "dueAt", "createdAt"),
    indexes=(("state", "dueAt", "endpointId"), ("createdAt",), ("endpointId", "createdAt")),
)
# Requests to erase one address: {_id, orgId, hash, state: running|done, files, results, createdAt, finishedAt}
ERASURES = Collection("Erasures", indexed=("orgId", "state", "createdAt"), indexes=(("orgId", "createdAt"), ("state",)))

ALL = (
    FILES,
    BATCHES,
    CREDIT_ENTRIES,
    CREDIT_ACCOUNTS,
    ORGANISATIONS,
    MEMBERS,
    API_KEYS,
    IDEMPOTENCY_KEYS,
    AUDIT,
    SUPPRESSED,
    STRIPE_EVENTS,
    STRIPE_CHECKOUTS,
    STRIPE_PAYMENTS,
    AUTO_RECHARGES,
    RECHARGES,
    WEBHOOK_ENDPOINTS,
    WEBHOOK_DELIVERIES,
    ERASURES,
)
