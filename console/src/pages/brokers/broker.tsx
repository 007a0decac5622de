// One broker: how its process stands, what it leads and has, and what can be done with it.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { at, post } from "../../api";
import { bytes, percent } from "../../format";
import { useGet, useMay, usePages } from "../../hooks";
import { Link, useQuery, type PageProps } from "../../router";
import type { Broker, NodesOutputBody, Replica } from "../../types";
import { Badge, Bar, Button, Confirm, Empty, KeyValue, Loading, Page, ProblemView, Section, Table, Tabs, Time, notify, type Column } from "../../ui";
import { DecommissionDialog, RemoveDialog } from "./decommission";
import { Progress, UnderWay } from "../operations/progress";
import { BrokerState, Disk, figuresOf, stateOf } from "./states";

export default function BrokerPage({ params }: PageProps) {
  const id = Number(params.id);
  const path = at`/api/v1/brokers/${params.id ?? ""}`;
  const { data: broker, error, loading, reload } = useGet<Broker>(path, { every: 2 });
  const calls = { drain: `POST ${path}/drain`, decommission: `POST ${path}/decommission`, remove: `DELETE ${path}` };
  const may = useMay(Object.values(calls));
  const [asks, setAsks] = useState<"" | "drain" | "decommission" | "remove">("");
  const [operation, setOperation] = useQuery("operation");
  const [refused, setRefused] = useState<string[]>([]);
  const drained = broker?.state === "draining";
  const drain = async (draining: boolean) => {
    const is = await post<Broker>(`${path}/drain`, { draining });
    setOperation(is.operation ?? "");
    setRefused([]);
    notify(draining ? `Others come to lead what broker ${id} leads.` : `Broker ${id} is given leaderships and replicas again.`);
    reload();
  };
  return (
    <Page
      title={`Broker ${params.id}`}
      sub={broker && <BrokerState broker={broker} />}
      actions={
        broker && (
          <>
            {may[calls.drain] && <Button onClick={() => setAsks("drain")}>{drained ? "Undrain…" : "Drain…"}</Button>}
            {may[calls.decommission] && (broker.replicas > 0 || broker.state !== "fenced") && <Button onClick={() => setAsks("decommission")}>Decommission…</Button>}
            {may[calls.remove] && broker.state === "fenced" && broker.replicas === 0 && (
              <Button kind="danger" onClick={() => setAsks("remove")}>
                Remove…
              </Button>
            )}
          </>
        )
      }
    >
      <ProblemView error={error} retry={reload} />
      {loading && <Loading />}
      {operation ? (
        <Section title="Progress" actions={<Button small onClick={() => setOperation("")}>Hide</Button>}>
          <Progress id={operation} />
        </Section>
      ) : (
        <UnderWay broker={id} />
      )}
      {refused.length > 0 && (
        <Section title={`${refused.length} replicas cannot move`}>
          <ul>
            {refused.slice(0, 20).map((why) => (
              <li key={why}>{why}</li>
            ))}
          </ul>
          {refused.length > 20 && <p class="muted">and {refused.length - 20} more</p>}
        </Section>
      )}
      {broker && (
        <Tabs
          label="Views of the broker"
          tabs={[
            { id: "state", title: "State", show: () => <State broker={broker} /> },
            { id: "partitions", title: `Partitions (${broker.replicas})`, show: () => <Partitions id={broker.id} /> },
          ]}
        />
      )}
      {asks === "drain" && (
        <Confirm title={drained ? `Undrain broker ${id}` : `Drain broker ${id}`} action={drained ? "Undrain" : "Drain"} onConfirm={() => drain(!drained)} onClose={() => setAsks("")}>
          {drained ? (
            <p>It is given leaderships and replicas again. Moves of a decommission that are under way end as they began.</p>
          ) : (
            <p>Others that are in sync come to lead what it leads, and it is given nothing new. It keeps its replicas, and follows. After that it can be stopped without anybody waiting for another leader.</p>
          )}
        </Confirm>
      )}
      {asks === "decommission" && (
        <DecommissionDialog
          id={id}
          onClose={() => setAsks("")}
          onBegun={(begun, why) => {
            setOperation(begun);
            setRefused(why);
            reload();
          }}
        />
      )}
      {asks === "remove" && <RemoveDialog id={id} onClose={() => setAsks("")} />}
    </Page>
  );
}

function State({ broker: b }: { broker: Broker }) {
  const nodes = useGet<NodesOutputBody>("/api/v1/nodes", { every: 5 });
  const { figures: f, unknown } = figuresOf(nodes.data?.nodes, b.id);
  const wal = f?.wal;
  const upload = f?.upload;
  const troubles = f?.troubles ?? [];
  return (
    <>
      {troubles.length > 0 && (
        <Section title="What needs a person">
          <ul>
            {troubles.map((t) => (
              <li key={t}>{t}</li>
            ))}
          </ul>
        </Section>
      )}
      <div class="cards wide">
        <Section title="In the cluster">
          <KeyValue
            items={[
              ["State", stateOf(b)],
              ["Rack", b.rack || "none"],
              ["Leads", `${b.leads} partitions`],
              ["Replicas", `${b.replicas}, ${b.in_sync} in sync${b.moving > 0 ? `, ${b.moving} moving` : ""}`],
              ["Epoch", b.epoch],
              ...(b.listeners ?? []).map((l): [string, ComponentChildren] => [`Listener ${l.name}`, <code>{l.address}</code>]),
            ]}
          />
        </Section>
        <Section title="Its process">
          {!f && (nodes.loading ? <Loading /> : <Empty title="It does not say.">{unknown}</Empty>)}
          {f && (
            <KeyValue
              items={[
                ["Version", f.version],
                ["Started", <Time at={f.started} relative />],
                ["Data directory", <code>{f.data_dir}</code>],
                ["Disk free", <Disk figures={f} />],
                ["Way to the bucket", f.circuit === "closed" ? <Badge kind="ok">requests pass</Badge> : <Badge kind="bad">it is left alone</Badge>],
                ["Last error", f.last_error],
              ]}
            />
          )}
        </Section>
        {wal && (
          <Section title="Write-ahead log">
            <Bar label="write-ahead log" of={wal.capacity_bytes} parts={[{ name: "used", value: wal.used_bytes, tone: wal.fullness >= 0.9 ? 5 : 1 }]} />
            <KeyValue
              items={[
                ["Capacity", bytes(wal.capacity_bytes)],
                ["Of what produce may use", percent(wal.fullness)],
                ["Short of files", wal.short],
                ["Refuses producers", wal.refused?.error],
                ["Refuses those of partitions", wal.refused_partition?.error],
              ]}
            />
          </Section>
        )}
        {upload && (
          <Section title="Uploads">
            <KeyValue
              items={[
                ["Not in the bucket yet", upload.waiting_bytes ? `${bytes(upload.waiting_bytes)} of ${upload.partitions} partitions` : "nothing"],
                ["The oldest waits", upload.waiting_since ? <Time at={upload.waiting_since} relative /> : undefined],
                ["Uploaded since its start", `${bytes(upload.bytes)} in ${upload.objects} objects`],
                ["Under way", upload.running],
                ["Failures", upload.failures],
                ["Failing", upload.failing_since ? <Time at={upload.failing_since} relative /> : undefined],
                ["Last error", upload.last_error],
              ]}
            />
          </Section>
        )}
      </div>
    </>
  );
}

const columns: Column<Replica>[] = [
  { key: "topic", title: "Topic", show: (r) => <Link href={at`/topics/${r.topic}`}>{r.topic}</Link>, sort: (r) => r.topic },
  { key: "partition", title: "Partition", show: (r) => r.partition, sort: (r) => r.partition, right: true },
  { key: "role", title: "Role", show: (r) => (r.leads ? "leads" : "follows"), sort: (r) => (r.leads ? 0 : 1) },
  { key: "sync", title: "In sync", show: (r) => (r.in_sync ? "yes" : <Badge kind="warn">no</Badge>), sort: (r) => (r.in_sync ? 1 : 0) },
  { key: "moving", title: "Moving", show: (r) => r.moving ?? "", sort: (r) => r.moving ?? "" },
];

function Partitions({ id }: { id: number }) {
  const { rows, error, loading, reload } = usePages<Replica>(at`/api/v1/brokers/${id}/replicas`, "replicas", { every: 15 });
  if (loading) return <Loading />;
  return (
    <>
      <ProblemView error={error} retry={reload} />
      <Table label="partitions" columns={columns} rows={rows} rowKey={(r) => `${r.topic}/${r.partition}`} filter={(r) => `${r.topic}-${r.partition} ${r.leads ? "leads" : "follows"}`} sorted="topic" empty={!error && <Empty title="It has no replica of any partition." />} />
    </>
  );
}
