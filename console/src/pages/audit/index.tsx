// The audit log: who did what to what, from where, and whether it was allowed. Searched, or followed as
// it is written; what is looked for stands in the address.
import { useMemo, useRef, useState } from "preact/hooks";
import { useGet, useMay, useStream } from "../../hooks";
import { setQuery, usePlace, useQuery } from "../../router";
import { withQuery } from "../../api";
import { fromLocal, toLocal } from "../../format";
import type { AuditEvent, AuditEvents } from "../../types";
import { Badge, Button, Empty, Field, Loading, Page, ProblemView, Section, Select } from "../../ui";
import { useSettled } from "../security/settled";
import { Events } from "./events";
import { asked, outcomes, spans, wantedKeys, wantedOf, type Wanted } from "./filter";
import { Verify } from "./verify";

const verifies = "GET /api/v1/audit/verify";
const step = 200; // events
const most = 10_000; // the API tells no more at once
const kept = 1000; // events of a stream

export default function Audit() {
  const [mode, setMode] = useQuery("live");
  const may = useMay([verifies]);
  const [verifying, setVerifying] = useState(false);
  const { query } = usePlace();
  const wanted: Wanted = JSON.parse(useSettled(JSON.stringify(wantedOf(query)))) as Wanted;
  return (
    <Page
      title="Audit"
      sub="Who did what to what, from where, and whether it was allowed."
      actions={
        <>
          <Button pressed={mode === "1"} onClick={() => setMode(mode === "1" ? "" : "1")}>
            Follow live
          </Button>
          {may[verifies] && <Button onClick={() => setVerifying(true)}>Verify the log</Button>}
        </>
      }
    >
      <Filters live={mode === "1"} />
      {mode === "1" ? <Live key={JSON.stringify(wanted)} wanted={wanted} /> : <Search key={JSON.stringify(wanted)} wanted={wanted} />}
      {verifying && <Verify onClose={() => setVerifying(false)} />}
    </Page>
  );
}

function Filters({ live }: { live: boolean }) {
  const { query } = usePlace();
  const is = wantedOf(query);
  const set = (key: keyof Wanted) => (value: string) => setQuery({ [key]: value });
  const any = wantedKeys.some((key) => is[key] !== "");
  return (
    <div class="filters" role="search" aria-label="Audit events">
      <Field label="Who" type="search" value={is.principal} onInput={set("principal")} placeholder="User:alice" maxLength={1024} />
      <Field label="Did what" type="search" value={is.action} onInput={set("action")} placeholder="topic.create, acl.*" maxLength={100} list={["topic.*", "acl.*", "user.*", "token.*", "config.*", "session.*", "quota.*", "login", "api.call"]} />
      <Field label="To what" type="search" value={is.resource} onInput={set("resource")} placeholder="orders, topic.orders*" maxLength={400} />
      <Select label="Outcome" value={is.outcome} onChange={set("outcome")} options={[{ value: "", label: "any" }, ...outcomes]} />
      {!live && <Select label="When" value={is.when} onChange={(when) => setQuery({ when, since: "", until: "" })} options={spans.map(({ value, label }) => ({ value, label }))} />}
      {!live && is.when === "between" && (
        <>
          <Field label="Since" type="datetime-local" value={toLocal(is.since)} onInput={(v) => setQuery({ since: fromLocal(v) })} />
          <Field label="Until" type="datetime-local" value={toLocal(is.until)} onInput={(v) => setQuery({ until: fromLocal(v) })} />
        </>
      )}
      {any && <Button onClick={() => setQuery(Object.fromEntries(wantedKeys.map((key) => [key, ""])))}>Clear</Button>}
    </div>
  );
}

function Search({ wanted }: { wanted: Wanted }) {
  const [limit, setLimit] = useState(step);
  const [now, setNow] = useState(Date.now());
  const { data, error, loading, reload } = useGet<AuditEvents>("/api/v1/audit", { query: { ...asked(wanted, now, true), limit } });
  const events = useMemo(() => (data?.events ?? []).slice().reverse(), [data]);
  const filtered = wantedKeys.some((key) => wanted[key] !== "");
  const again = () => {
    setNow(Date.now());
    reload(); // without a span of time the question is the same one
  };
  return (
    <Section
      title="Events"
      actions={
        <Button small onClick={again}>
          Look again
        </Button>
      }
    >
      <ProblemView error={error} retry={again} />
      {loading && <Loading what="Reading the log" />}
      {data && (
        <Events
          events={events}
          empty={
            filtered ? (
              <Empty title="No event is so." />
            ) : (
              <Empty title="Nothing is recorded.">
                Where clients prove who they are, refusals, logins and administrative acts are. The key <code>security.audit.record</code> says what.
              </Empty>
            )
          }
          more={
            data.more && (
              <p>
                There may be older ones.{" "}
                {limit < most ? (
                  <Button small onClick={() => setLimit(Math.min(most, limit * 5))}>
                    Show up to {Math.min(most, limit * 5).toLocaleString("en-US")}
                  </Button>
                ) : (
                  "Narrow down what is looked for, or the time."
                )}
              </p>
            )
          }
        />
      )}
    </Section>
  );
}

interface Said {
  next?: number; // of "at"
  detail?: string; // of "trouble"
}

function Live({ wanted }: { wanted: Wanted }) {
  const [events, setEvents] = useState<AuditEvent[]>([]);
  const [paused, setPaused] = useState(false);
  const [trouble, setTrouble] = useState("");
  const [next, setNext] = useState("");
  const position = useRef("");
  const path = withQuery("/api/v1/audit/stream", asked(wanted, 0, false));
  const resume = (id: string) => withQuery(path, { after: id });
  // Who goes on after a pause goes on where it stopped.
  const { state, error } = useStream<AuditEvent & Said>(
    paused ? null : next === "" ? path : resume(next),
    ({ event, id, data }) => {
      setTrouble(event === "trouble" ? (data.detail ?? "") : "");
      if (id !== "") position.current = id;
      if (event !== "audit") return;
      setEvents((was) => [data, ...was].slice(0, kept));
    },
    { events: ["audit", "at", "trouble"], resume },
  );
  return (
    <Section
      title="Events, the newest first"
      actions={
        <>
          <Button
            small
            pressed={paused}
            onClick={() => {
              if (!paused) setNext(position.current);
              setPaused(!paused);
            }}
          >
            Pause
          </Button>
          <Button small onClick={() => setEvents([])}>
            Clear
          </Button>
        </>
      }
    >
      <div class="stream-state" role="status">
        {paused ? <Badge>paused</Badge> : state === "live" ? <Badge kind="ok">live</Badge> : state === "lost" ? <Badge kind="bad">connection lost, trying again</Badge> : <Badge kind="info">connecting</Badge>}
        {trouble !== "" && <span>The log cannot be read for now: {trouble}</span>}
      </div>
      <ProblemView error={error} />
      <Events events={events} empty={<Empty title="Nothing so far.">What happens from now on comes here as it is recorded.</Empty>} more={events.length === kept && <p class="muted">Older ones left the page: the last {kept.toLocaleString("en-US")} are kept here.</p>} />
    </Section>
  );
}
