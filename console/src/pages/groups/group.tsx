// One group: its members, how far it is in each partition, how far it was behind in the last hour,
// and how its offsets are set and deleted.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { at, del } from "../../api";
import { grouped } from "../../exact";
import { count, duration } from "../../format";
import { useGet, useMay } from "../../hooks";
import { Link, navigate, type PageProps } from "../../router";
import type { GroupDescription, GroupMember, GroupPartition, LagHistory } from "../../types";
import { Badge, Button, Chart, Confirm, Loading, Page, ProblemView, Select, Table, Tabs, notify, type Column } from "../../ui";
import { groupURL, topicPath } from "../topics/paths";
import { visible } from "../../text";
import { Reset } from "./reset";
import { groupKind } from "./state";

type Open = "" | "reset" | "delete" | "offsets";

export default function GroupPage({ params }: PageProps) {
  const id = params["id"] ?? "";
  const url = groupURL(id);
  const calls = useMemo(() => ({ reset: `POST ${url}/reset-offsets`, remove: `DELETE ${url}`, offsets: `DELETE ${url}/offsets` }), [url]);
  const may = useMay(Object.values(calls));
  const group = useGet<GroupDescription>(url, { every: 5 });
  const [open, setOpen] = useState<Open>("");
  const g = group.data;
  const close = () => setOpen("");
  const parts = g?.partition_list ?? [];
  return (
    <Page
      title={visible(id)}
      sub={
        g && (
          <>
            <Badge kind={groupKind(g.state)}>{g.state}</Badge> {g.kind} group{g.protocol_type && g.protocol_type !== "consumer" ? ` of ${g.protocol_type}` : ""}
          </>
        )
      }
      actions={
        g && (
          <>
            {may[calls.reset] && <Button onClick={() => setOpen("reset")}>Reset offsets</Button>}
            {may[calls.offsets] && parts.some((p) => p.committed !== undefined) && <Button onClick={() => setOpen("offsets")}>Delete offsets</Button>}
            {may[calls.remove] && (
              <Button kind="danger" onClick={() => setOpen("delete")}>
                Delete
              </Button>
            )}
          </>
        )
      }
    >
      <ProblemView error={group.error} retry={group.reload} />
      {group.loading && <Loading what="Asking the coordinator" />}
      {g && (
        <>
          <div class="cards figures">
            <div class="card">
              <h2>Lag</h2>
              <p class="figure">{count(g.lag_records)}</p>
              <p class="muted">records, of {count(g.partitions)} partitions with a committed offset</p>
            </div>
            <div class="card">
              <h2>Behind by</h2>
              <p class="figure">{duration(g.lag_seconds)}</p>
              <p class="muted">since the oldest record came that is not consumed</p>
            </div>
            <div class="card">
              <h2>Members</h2>
              <p class="figure">{count(g.members)}</p>
              <p class="muted">{g.members === 0 ? "nobody consumes" : "that consume now"}</p>
            </div>
          </div>
          <Lag url={url} group={g} />
          <Tabs
            label={`Group ${visible(id)}`}
            tabs={[
              { id: "partitions", title: "Partitions", show: () => <Table label="partitions" name="p" columns={partitionColumns} rows={parts} rowKey={(p) => `${p.topic}/${p.partition}`} filter={(p) => `${p.topic}-${p.partition} ${p.member_id ?? ""}`} sorted="-lag" empty={<p class="empty muted">Nothing is committed, and nobody consumes.</p>} /> },
              { id: "members", title: "Members", show: () => <Table label="members" name="m" columns={memberColumns} rows={g.member_list ?? []} rowKey={(m) => m.member_id} filter={(m) => `${m.member_id} ${m.client_id} ${m.host}`} empty={<p class="empty muted">The group has no members: its offsets can be reset.</p>} /> },
            ]}
          />
          {open === "reset" && <Reset group={g} onClose={close} onDone={group.reload} />}
          {open === "delete" && <DeleteGroup group={g} onClose={close} />}
          {open === "offsets" && <DeleteOffsets group={g} onClose={close} onDone={group.reload} />}
        </>
      )}
    </Page>
  );
}

// Lag is how far the group was behind: as the server has seen in the last hour, and since then as
// this page has.
function Lag({ url, group }: { url: string; group: GroupDescription }) {
  const history = useGet<LagHistory>(`${url}/lag`, { every: 30 });
  const seen = useRef<Behind[]>([]);
  const [, show] = useState(0);
  useEffect(() => {
    seen.current = [...seen.current, { time: Date.now() / 1000, records: group.lag_records, seconds: group.lag_seconds ?? null }].slice(-720);
    show((n) => n + 1);
  }, [group]);
  const points = history.data?.points ?? [];
  const all = useMemo(() => {
    const past = points.map((p): Behind => ({ time: Date.parse(p.time) / 1000, records: p.lag_records, seconds: p.lag_seconds ?? null }));
    const from = past.at(-1)?.time ?? 0;
    return [...past, ...seen.current.filter((s) => s.time > from)];
  }, [history.data, group]);
  const times = useMemo(() => all.map((p) => p.time), [all]);
  if (times.length < 2) return <p class="card muted">How far it is behind over time is drawn once it was looked at twice, which takes some seconds.</p>;
  return (
    <div class="cards wide">
      <div class="card">
        <Chart title="Lag over time, in records" unit="count" times={times} series={[{ name: "Lag", values: all.map((p) => p.records) }]} height={160} />
      </div>
      <div class="card">
        <Chart title="Behind by, over time" unit="seconds" times={times} series={[{ name: "Behind by", values: all.map((p) => p.seconds) }]} height={160} />
      </div>
    </div>
  );
}

interface Behind {
  time: number; // Unix seconds
  records: number;
  seconds: number | null;
}

function DeleteGroup({ group, onClose }: { group: GroupDescription; onClose: () => void }) {
  return (
    <Confirm
      title="Delete the group"
      action="Delete the group"
      typed={group.group}
      onClose={onClose}
      onConfirm={async () => {
        await del(groupURL(group.group));
        notify(`Group ${visible(group.group)} is deleted.`);
        navigate("/groups");
      }}
    >
      <p>What it has committed is forgotten: consumers that come under this name begin where their auto.offset.reset says.{group.members > 0 && " It has members now, and is refused until they have left."}</p>
    </Confirm>
  );
}

function DeleteOffsets({ group, onClose, onDone }: { group: GroupDescription; onClose: () => void; onDone: () => void }) {
  const topics = [...new Set((group.partition_list ?? []).filter((p) => p.committed !== undefined).map((p) => p.topic))];
  const [topic, setTopic] = useState(topics[0] ?? "");
  return (
    <Confirm
      title="Delete offsets"
      action="Delete the offsets"
      danger
      onClose={onClose}
      onConfirm={async () => {
        await del(at`/api/v1/groups/${group.group}/offsets`, { topic });
        notify(`What ${visible(group.group)} had committed of ${topic} is deleted.`);
        onDone();
      }}
    >
      <Select label="Of topic" value={topic} onChange={setTopic} options={topics} />
      <p>What the group has committed of this topic is forgotten: who consumes it as this group begins where its auto.offset.reset says. Refused while a member subscribes to it.</p>
    </Confirm>
  );
}

const partitionColumns: Column<GroupPartition>[] = [
  {
    key: "partition",
    title: "Partition",
    sort: (p) => `${p.topic} ${String(p.partition).padStart(6, "0")}`,
    show: (p) => (
      <>
        <Link href={topicPath(p.topic)}>{p.topic}</Link>-{p.partition}
      </>
    ),
  },
  { key: "committed", title: "Committed", right: true, sort: (p) => p.committed ?? -1, show: (p) => grouped(p, "committed") },
  { key: "end", title: "End", right: true, sort: (p) => p.end, show: (p) => grouped(p, "end") },
  { key: "lag", title: "Lag", right: true, sort: (p) => p.lag_records ?? -1, show: (p) => grouped(p, "lag_records") },
  { key: "behind", title: "Behind by", right: true, sort: (p) => p.lag_seconds ?? -1, show: (p) => duration(p.lag_seconds) },
  { key: "member", title: "Member", sort: (p) => p.member_id ?? "", show: (p) => (p.member_id ? <bdi class="mono">{visible(p.member_id)}</bdi> : <span class="muted">nobody</span>) },
  { key: "note", title: "Note", show: (p) => p.note && <Badge kind="warn">{p.note}</Badge> },
];

function taken(m: GroupMember): number {
  return (m.assigned ?? []).reduce((sum, a) => sum + (a.partitions ?? []).length, 0);
}

const memberColumns: Column<GroupMember>[] = [
  { key: "member", title: "Member", sort: (m) => m.member_id, show: (m) => <bdi class="mono">{visible(m.member_id)}</bdi> },
  { key: "client", title: "Client", sort: (m) => m.client_id, show: (m) => <bdi>{visible(m.client_id)}</bdi> },
  { key: "instance", title: "Static as", sort: (m) => m.instance_id ?? "", show: (m) => (m.instance_id ? <bdi>{visible(m.instance_id)}</bdi> : <span class="muted">no</span>) },
  { key: "host", title: "Host", sort: (m) => m.host, show: (m) => m.host.replace(/^\//, "") },
  { key: "count", title: "Partitions", right: true, sort: taken, show: (m) => count(taken(m)) },
  { key: "assigned", title: "Assigned", show: (m) => <Assigned member={m} /> },
];

function Assigned({ member }: { member: GroupMember }) {
  const all = member.assigned ?? [];
  if (all.length === 0) return <span class="muted">nothing</span>;
  return (
    <>
      {all.map((a, i) => (
        <span key={a.topic}>
          {i > 0 && "; "}
          <Link href={topicPath(a.topic)}>{a.topic}</Link>: {ranges(a.partitions ?? [])}
        </span>
      ))}
    </>
  );
}

// ranges of numbers: 0-3, 7.
export function ranges(numbers: number[]): string {
  const sorted = [...numbers].sort((a, b) => a - b);
  const out: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let to = i;
    while (sorted[to + 1] === (sorted[to] ?? 0) + 1) to++;
    out.push(to > i ? `${sorted[i]}-${sorted[to]}` : `${sorted[i]}`);
    i = to + 1;
  }
  return out.join(", ");
}
