// Events of the audit log in a table, and one of them with all that is known of it.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { exact } from "../../exact";
import { time } from "../../format";
import type { AuditEvent } from "../../types";
import { Badge, Dialog, KeyValue, Table, Time, type Column, type Kind } from "../../ui";

const outcomeKinds: Record<string, Kind> = { allowed: "ok", denied: "bad", failed: "warn" };

// whatOf is what an event says that was done; a gap and a beginning are no acts.
function whatOf(e: AuditEvent): string {
  if (e.damaged) return "(damaged)";
  if (e.kind === "gap") return `(gap: ${(e.lost ?? 0).toLocaleString("en-US")} events were not recorded)`;
  if (e.kind === "begin") return "(the node began to record)";
  return (e.action ?? e.kind) + ((e.count ?? 0) > 1 ? ` × ${(e.count ?? 0).toLocaleString("en-US")}` : "");
}

const whyOf = (e: AuditEvent): string => e.damaged ?? [e.reason, e.detail].filter(Boolean).join("; ");
const onOf = (e: AuditEvent): string => [e.resource_type, e.resource].filter(Boolean).join(" ");

function Outcome({ event }: { event: AuditEvent }) {
  if (event.damaged) return <Badge kind="bad">damaged</Badge>;
  if (event.kind === "gap") return <Badge kind="warn">gap</Badge>;
  return event.outcome ? <Badge kind={outcomeKinds[event.outcome] ?? "muted"}>{event.outcome}</Badge> : <>–</>;
}

export function Events({ events, empty, more }: { events: AuditEvent[]; empty: ComponentChildren; more?: ComponentChildren }) {
  const [shown, setShown] = useState<AuditEvent>();
  const columns: Column<AuditEvent>[] = [
    {
      key: "time",
      title: "Time",
      show: (e) => (
        <button type="button" class="event-time" aria-label={`All of the event of ${time(e.time)}: ${whatOf(e)}`} onClick={() => setShown(e)}>
          {time(e.time)}
        </button>
      ),
      sort: (e) => e.offset,
    },
    { key: "who", title: "Who", show: (e) => <span class="event-who">{e.principal ?? "–"}</span>, sort: (e) => e.principal ?? "" },
    { key: "what", title: "Did what", show: (e) => <span class="event-what">{whatOf(e)}</span>, sort: whatOf },
    { key: "on", title: "To what", show: (e) => onOf(e) || "–", sort: onOf },
    { key: "outcome", title: "Outcome", show: (e) => <Outcome event={e} />, sort: (e) => e.outcome ?? "" },
    { key: "from", title: "From", mono: true, show: (e) => <span class="event-source">{e.source ?? "–"}</span>, sort: (e) => e.source ?? "" },
    { key: "why", title: "Why", show: (e) => whyOf(e) || "–" },
  ];
  return (
    <>
      <Table label="Audit events" name="event" columns={columns} rows={events} rowKey={(e) => String(e.offset)} filter={(e) => [e.principal, whatOf(e), onOf(e), e.outcome, e.source, whyOf(e)].join(" ")} empty={empty} more={more} />
      {shown && (
        <Dialog title="Event" onClose={() => setShown(undefined)} wide>
          <KeyValue
            items={[
              ["Time", <Time at={shown.time} />],
              ["First of them", shown.first && <Time at={shown.first} />],
              ["How often", shown.count],
              ["Who", shown.principal],
              ["From", shown.source],
              ["Through", shown.door],
              ["Request", shown.request],
              ["Did what", whatOf(shown)],
              ["To what", onOf(shown) || undefined],
              ["Outcome", <Outcome event={shown} />],
              ["Reason", shown.reason],
              ["Detail", shown.detail],
              ["Damaged", shown.damaged],
              ["Recorded by node", shown.node],
              ["Offset in __audit", exact(shown, "offset")],
            ]}
          />
        </Dialog>
      )}
    </>
  );
}
