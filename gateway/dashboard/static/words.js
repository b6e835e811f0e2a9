// What the API's words are called on the page, and how numbers and times are written.

export const VERDICTS = ["valid", "risky", "invalid", "unknown"];

export const VERDICT_WORDS = {
  valid: "Valid",
  risky: "Risky",
  invalid: "Invalid",
  unknown: "Unknown",
};

export const STATUS_WORDS = {
  ready: "Ready to start",
  queued: "Waiting",
  processing: "Running",
  paused: "Paused",
  completed: "Finished",
  cancelled: "Cancelled",
  failed: "Failed",
};

// Reason: [what it means, the verdict that it usually comes with].
const REASONS = {
  accepted: ["The mail server accepts this mailbox", "valid"],
  role_account: ["Accepted, but a role rather than a person", "risky"],
  catch_all: ["The server accepts every address", "risky"],
  disposable: ["A throw-away mailbox", "risky"],
  mailbox_full: ["The mailbox is full", "risky"],
  mailbox_missing: ["There is no such mailbox", "invalid"],
  mailbox_disabled: ["The mailbox is disabled", "invalid"],
  invalid_syntax: ["This is no e-mail address", "invalid"],
  domain_missing: ["The domain does not exist", "invalid"],
  no_mail_host: ["The domain has no mail server", "invalid"],
  null_mx: ["The domain says it takes no mail", "invalid"],
  relay_denied: ["The server does not take mail for this domain", "invalid"],
  put_off: ["The server kept asking to come back later", "unknown"],
  prober_blocked: ["The server refused to talk to us", "unknown"],
  timeout: ["The server did not answer in time", "unknown"],
  unreachable: ["The server could not be reached", "unknown"],
  tls_failed: ["No secure connection to the server", "unknown"],
  server_error: ["The server had trouble of its own", "unknown"],
  protocol_error: ["The server's answer made no sense", "unknown"],
  private_address: ["The mail server is in a private network", "unknown"],
  dns_failure: ["The domain's name servers did not answer", "unknown"],
  circuit_open: ["The server failed too often to be asked again", "unknown"],
  provider_policy: ["The provider does not let mailboxes be checked", "unknown"],
  suppressed: ["On your list of addresses not to be checked", "unknown"],
  cancelled: ["Cancelled before it was checked", "unknown"],
};

export const reasonWords = (reason) => REASONS[reason]?.[0] ?? plain(reason);
export const reasonVerdict = (reason) => REASONS[reason]?.[1] ?? "unknown";

export const LEDGER_WORDS = {
  grant: "Granted",
  purchase: "Bought",
  refund: "Taken back after a refund",
  adjustment: "Adjusted",
  hold: "Held",
  capture: "Charged",
  release: "Given back",
};

export const FLAG_WORDS = {
  role: "role account",
  disposable: "throw-away provider",
  free: "free provider",
  catch_all: "accepts every address",
  mailbox_full: "mailbox full",
  disabled: "disabled",
};

export const SCORE_WORDS = {
  answer: "The server's answer",
  role: "Role account",
  disposable: "Throw-away provider",
  disposable_wide: "Perhaps a throw-away provider",
  mistyped: "Looks like a slip of the pen",
  unproven: "Nothing to compare the acceptance with",
  implicit_mx: "No MX record, only an address",
};

/** `some_word` as `some word`. */
export const plain = (word) => String(word).replaceAll("_", " ");

const whole = new Intl.NumberFormat("en");
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });
const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const ago = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

export const number = (value) => whole.format(value ?? 0);
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;
export const signed = (value) => (value > 0 ? `+${number(value)}` : number(value).replace("-", "−"));
export const dateTime = (iso) => (iso ? moment.format(new Date(iso)) : "");

/** Never says 100 % before it is, nor 0 % of something. */
export function share(part) {
  if (part > 0 && part < 0.01) return "<1%";
  if (part > 0.99 && part < 1) return ">99%";
  return percent.format(part);
}

export function since(iso) {
  const seconds = (new Date(iso) - Date.now()) / 1000;
  if (seconds > -45) return "just now";
  if (seconds > -3_600) return ago.format(Math.round(seconds / 60), "minute");
  if (seconds > -86_400) return ago.format(Math.round(seconds / 3_600), "hour");
  if (seconds > -7 * 86_400) return ago.format(Math.round(seconds / 86_400), "day");
  return dateTime(iso);
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3_600) return `${Math.round(seconds / 60)} min`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function bytes(size) {
  if (size < 1_000) return `${size} bytes`;
  if (size < 1_000_000) return `${Math.round(size / 1_000)} kB`;
  return `${(size / 1_000_000).toFixed(1)} MB`;
}
