// All brokers: their state, what each leads and has, and how their processes stand.
import { useMemo } from "preact/hooks";
import { useGet, useMay } from "../../hooks";
import { Link } from "../../router";
import type { Broker, NodesOutputBody, BrokersOutputBody } from "../../types";
import { Badge, Bar, Empty, Loading, Page, ProblemView, Section, Table, type Column } from "../../ui";
import { BrokerState, Disk, Log, Waiting, figuresOf, stateOf } from "./states";
import { UnderWay } from "../operations/progress";

const rebalance = "POST /api/v1/cluster/rebalance";

export default function BrokersPage() {
  const { data, error, loading, reload } = useGet<BrokersOutputBody>("/api/v1/brokers", { every: 3 });
  const nodes = useGet<NodesOutputBody>("/api/v1/nodes", { every: 10 });
  const may = useMay([rebalance]);
  const brokers = data?.brokers ?? [];
  const versions = new Set((nodes.data?.nodes ?? []).flatMap((n) => n.figures?.version ?? []));
  const most = Math.max(1, ...brokers.map((b) => b.replicas));
  const columns = useMemo<Column<Broker>[]>(() => {
    const of = (b: Broker) => figuresOf(nodes.data?.nodes, b.id);
    return [
      { key: "id", title: "Broker", show: (b) => <Link href={`/brokers/${b.id}`}>broker {b.id}</Link>, sort: (b) => b.id },
      { key: "state", title: "State", show: (b) => <BrokerState broker={b} />, sort: stateOf },
      { key: "rack", title: "Rack", show: (b) => <span class="whole">{b.rack || "–"}</span>, sort: (b) => b.rack ?? "" },
      { key: "version", title: "Version", show: (b) => of(b).figures?.version ?? <Unknown why={of(b).unknown} />, sort: (b) => of(b).figures?.version ?? "" },
      { key: "leads", title: "Leads", show: (b) => b.leads, sort: (b) => b.leads, right: true },
      { key: "replicas", title: "Replicas", show: (b) => <Replicas broker={b} />, sort: (b) => b.replicas, right: true },
      { key: "log", title: "Log used", show: (b) => <Log figures={of(b).figures} />, sort: (b) => of(b).figures?.wal?.fullness ?? -1, right: true },
      { key: "waiting", title: "Waits for upload", show: (b) => <Waiting figures={of(b).figures} />, sort: (b) => of(b).figures?.upload?.waiting_bytes ?? -1, right: true },
      { key: "disk", title: "Disk free", show: (b) => <Disk figures={of(b).figures} />, sort: (b) => of(b).figures?.disk_free_bytes ?? -1, right: true },
      { key: "address", title: "Address", show: (b) => <span class="whole">{(b.listeners ?? []).find((l) => l.name !== "peer")?.address ?? "–"}</span>, mono: true },
    ];
  }, [nodes.data]);
  return (
    <Page
      title="Brokers"
      sub="They store records and serve clients."
      actions={may[rebalance] && brokers.length > 1 && <Link class="button" href="/brokers/rebalance">Rebalance…</Link>}
    >
      <ProblemView error={error} retry={reload} />
      {versions.size > 1 && <p class="note">The brokers run different versions: {[...versions].sort().join(", ")}. Until all run the newest, the cluster keeps to what the oldest knows.</p>}
      <UnderWay />
      {loading ? (
        <Loading />
      ) : (
        <>
          <Table
            label="brokers"
            dense
            columns={columns}
            rows={brokers}
            rowKey={(b) => String(b.id)}
            filter={(b) => `broker ${b.id} ${b.rack ?? ""} ${stateOf(b)} ${(b.listeners ?? []).map((l) => l.address).join(" ")}`}
            sorted="id"
            empty={!error && <Empty title="No broker is registered." command="rustmq serve --roles broker --node-id 2 --peers 1@HOST --bucket URL" />}
          />
          {brokers.length > 1 && (
            <Section title="Load">
              <p class="muted">Partitions that each leads, and those of which it has a copy to take over with.</p>
              <div class="loads">
                {brokers.map((b) => (
                  <div key={b.id}>
                    <span class="load-name">broker {b.id}</span>
                    <Bar
                      label={`broker ${b.id}`}
                      of={most}
                      format={String}
                      parts={[
                        { name: "leads", value: b.leads, tone: 1 },
                        { name: "follows", value: b.replicas - b.leads, tone: 6 },
                      ]}
                    />
                  </div>
                ))}
              </div>
            </Section>
          )}
        </>
      )}
      <ProblemView error={nodes.error} retry={nodes.reload} />
    </Page>
  );
}

// Replicas says how many a broker has, and of them those behind and those on their way.
function Replicas({ broker: b }: { broker: Broker }) {
  return (
    <>
      {b.replicas > b.in_sync && <Badge kind="warn">{b.replicas - b.in_sync} not in sync</Badge>} {b.moving > 0 && <Badge kind="info">{b.moving} moving</Badge>} {b.replicas}
    </>
  );
}

function Unknown({ why }: { why: string }) {
  return (
    <span class="muted" title={why}>
      {why ? "not known" : "–"}
    </span>
  );
}
