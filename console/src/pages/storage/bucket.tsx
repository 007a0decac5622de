// The bucket as the process that answers knows it, and the probe of it.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { post } from "../../api";
import { bytes, count, duration } from "../../format";
import { useAction, useGet, useMay } from "../../hooks";
import type { BucketState, ClockConfirmed, ClusterHealth, Probe, ProbeStep, RequestCount } from "../../types";
import { Badge, Button, Confirm, KeyValue, ProblemView, Section, Table, Time, notify, type Column } from "../../ui";

const calls = { probe: "POST /api/v1/storage/probe", clock: "POST /api/v1/storage/confirm-clock" };

const requests: Column<RequestCount>[] = [
  { key: "class", title: "Request", show: (r) => r.class, sort: (r) => r.class },
  { key: "calls", title: "Calls", show: (r) => count(r.calls), sort: (r) => r.calls, right: true },
  { key: "requests", title: "As the store counts", show: (r) => count(r.requests), sort: (r) => r.requests, right: true },
  { key: "errors", title: "Errors", show: (r) => (r.errors > 0 ? <Badge kind="warn">{count(r.errors)}</Badge> : 0), sort: (r) => r.errors, right: true },
  { key: "bytes", title: "Bytes", show: (r) => bytes(r.bytes), sort: (r) => r.bytes, right: true },
  { key: "mean", title: "Mean time", show: (r) => (r.calls > 0 ? duration(r.seconds / r.calls) : "–"), sort: (r) => (r.calls > 0 ? r.seconds / r.calls : 0), right: true },
];

const states = { prepared: "uploads under way, or given up in a while", committed: "named by the catalogue", condemned: "named by nothing any more, deleted in a while" };

export function Bucket({ state: s }: { state: BucketState }) {
  const warnings = s.warnings ?? [];
  return (
    <>
      {warnings.length > 0 && (
        <Section title="What needs a person">
          <ul>
            {warnings.map((w) => (
              <li key={w}>{w}</li>
            ))}
          </ul>
        </Section>
      )}
      <div class="cards wide">
        <Section title="Reached">
          <KeyValue
            items={[
              ["Circuit", s.circuit === "closed" ? <><Badge kind="ok">closed</Badge> requests pass</> : <><Badge kind="bad">{s.circuit}</Badge> the store is left alone but for probes</>],
              ["Since", s.circuit_since ? <Time at={s.circuit_since} relative /> : undefined],
              ["Last success", s.last_success_at ? <Time at={s.last_success_at} relative /> : undefined],
              ["Last error", s.last_error ? <>{s.last_error} (<Time at={s.last_error_at} relative />)</> : undefined],
              ["Slow requests", s.slow],
              ["Retries", count(s.retries)],
              ["Calls not made, to spare it", count(s.refused)],
              ["Keys", <code>{s.prefix}…</code>],
            ]}
          />
        </Section>
        <Section title="What is in it">
          <KeyValue
            items={[
              ["Records", `${bytes(s.record_bytes)} in ${count(s.ranges)} ranges`],
              ["Listed by manifests", s.manifests > 0 ? `${count(s.filed_ranges)} ranges, in ${count(s.manifests)} manifests` : "none yet"],
              ...Object.entries(states).map(([name, what]): [string, ComponentChildren] => [
                `Objects ${name}`,
                <span title={what}>
                  {count(s.objects[name]?.objects ?? 0)}, {bytes(s.objects[name]?.bytes ?? 0)}
                </span>,
              ]),
              ["Metadata log", s.metadata_log.applied > s.metadata_log.shipped ? `up to ${count(s.metadata_log.shipped)}, ${count(s.metadata_log.applied - s.metadata_log.shipped)} behind` : `up to ${count(s.metadata_log.shipped)}, all of it`],
            ]}
          />
        </Section>
      </div>
      <Section title="Requests of the process that answers">
        <p class="muted">
          Counted since <Time at={s.since} />.
        </p>
        <Table label="requests" columns={requests} rows={s.requests ?? []} rowKey={(r) => r.class} name="requests" />
      </Section>
      <Probing />
      <Clock />
    </>
  );
}

const steps: Column<ProbeStep>[] = [
  { key: "name", title: "Step", show: (s) => s.name },
  { key: "result", title: "Result", show: (s) => (s.error ? <Badge kind="bad">failed</Badge> : <Badge kind="ok">works</Badge>) },
  { key: "seconds", title: "Took", show: (s) => duration(s.seconds), right: true },
  { key: "error", title: "Why, and what does not work without it", show: (s) => (s.error ? `${s.error}: ${s.means ?? ""}` : "") },
];

function Probing() {
  const may = useMay([calls.probe])[calls.probe];
  const [probe, setProbe] = useState<Probe | undefined>();
  const run = useAction(async () => setProbe(await post<Probe>("/api/v1/storage/probe")));
  if (!may) return null;
  return (
    <Section
      title="Probe"
      actions={
        <Button busy={run.busy} onClick={run.go}>
          Probe the bucket
        </Button>
      }
    >
      <p class="muted">Writes, reads, lists and deletes objects of its own, and says what does not work and how long each step took.</p>
      <ProblemView error={run.error} />
      {probe && (
        <>
          <p role="status">
            {probe.ok ? <><Badge kind="ok">well</Badge> The bucket does all that is needed.</> : <><Badge kind="bad">not well</Badge> The bucket does not do all that is needed.</>} Its clock is{" "}
            {Math.abs(probe.skew_seconds) < 1 ? "as here, to a second" : `${duration(Math.abs(probe.skew_seconds))} ${probe.skew_seconds > 0 ? "ahead of" : "behind"} the clock here`}.
          </p>
          <Table label="steps" columns={steps} rows={probe.steps ?? []} rowKey={(s) => s.name} name="steps" />
        </>
      )}
    </Section>
  );
}

// Clock is shown where the controller has stopped retention for its clock.
function Clock() {
  const may = useMay([calls.clock])[calls.clock];
  const { data, reload } = useGet<ClusterHealth>("/api/v1/cluster/health", { every: 30 });
  const [asks, setAsks] = useState(false);
  const problem = (data?.problems ?? []).find((p) => p.kind === "clock");
  if (!problem) return null;
  const confirm = async () => {
    const done = await post<ClockConfirmed>("/api/v1/storage/confirm-clock");
    notify(done.confirmed ? "The clock is confirmed: retention by age goes on." : "There was nothing to confirm.");
    reload();
  };
  return (
    <Section title="Clock" actions={may && <Button onClick={() => setAsks(true)}>Confirm the clock…</Button>}>
      <p>{problem.what}</p>
      <p class="muted">{problem.do}</p>
      {asks && (
        <Confirm title="Is the clock of the controller right?" action="It is right" danger onConfirm={confirm} onClose={() => setAsks(false)}>
          <p>Retention by age goes on then. By a clock that is wrong it deletes what is to be kept: look at it on that machine first.</p>
        </Confirm>
      )}
    </Section>
  );
}
