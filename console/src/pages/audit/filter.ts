// What of the audit log is wanted, as it stands in the address and as the API is asked for it.
import type { Query } from "../../api";

export const outcomes = ["allowed", "denied", "failed"] as const;

export const spans: readonly { value: string; label: string; seconds: number }[] = [
  { value: "", label: "any time", seconds: 0 },
  { value: "15m", label: "the last 15 minutes", seconds: 900 },
  { value: "1h", label: "the last hour", seconds: 3600 },
  { value: "1d", label: "the last day", seconds: 86_400 },
  { value: "7d", label: "the last week", seconds: 604_800 },
  { value: "between", label: "between two times", seconds: 0 },
];

export interface Wanted {
  principal: string;
  action: string;
  resource: string; // a name alone, or TYPE.NAME for those of one type
  outcome: string;
  when: string; // of spans
  since: string; // RFC 3339, for "between"
  until: string;
}

export const wantedKeys: readonly (keyof Wanted)[] = ["principal", "action", "resource", "outcome", "when", "since", "until"];

export function wantedOf(query: URLSearchParams): Wanted {
  const of = (key: keyof Wanted) => query.get(key) ?? "";
  return { principal: of("principal"), action: of("action"), resource: of("resource"), outcome: of("outcome"), when: of("when"), since: of("since"), until: of("until") };
}

const types = ["topic", "group", "cluster", "transactional-id", "delegation-token", "user", "token", "acl", "quota", "config", "session", "broker", "controller", "etl", "path"];

// asked is the query of /api/v1/audit, and without times that of its stream.
export function asked(w: Wanted, now: number, times: boolean): Query {
  const dot = w.resource.indexOf(".");
  const typed = dot > 0 && types.includes(w.resource.slice(0, dot));
  const query: Query = {
    principal: w.principal,
    action: w.action,
    resource_type: typed ? w.resource.slice(0, dot) : "",
    resource: typed ? w.resource.slice(dot + 1) : w.resource,
    outcome: w.outcome,
  };
  if (!times) return query;
  if (w.when === "between") return { ...query, since: w.since, until: w.until };
  const span = spans.find((s) => s.value === w.when)?.seconds ?? 0;
  return span === 0 ? query : { ...query, since: new Date(now - span * 1000).toISOString() };
}
