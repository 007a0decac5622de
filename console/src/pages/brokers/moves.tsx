// A plan of moves of replicas: which, how much is sent, and how brokers stand afterwards.
import { bytes, count } from "../../format";
import type { BrokerReplicas, ReplicaMove } from "../../types";
import { Bar, Table, type Column } from "../../ui";

const columns: Column<ReplicaMove>[] = [
  { key: "topic", title: "Partition", show: (m) => `${m.topic}-${m.partition}`, sort: (m) => `${m.topic}-${m.partition}` },
  { key: "from", title: "From", show: (m) => <Replicas ids={m.from} others={m.to} sign="leaves" /> },
  { key: "to", title: "To", show: (m) => <Replicas ids={m.to} others={m.from} sign="comes" /> },
  { key: "sent", title: "Sent", show: (m) => bytes(m.sent_bytes), sort: (m) => m.sent_bytes, right: true },
  { key: "kept", title: "Stays in the bucket", show: (m) => bytes(m.kept_bytes), sort: (m) => m.kept_bytes, right: true },
];

function Replicas({ ids, others, sign }: { ids: number[] | null; others: number[] | null; sign: "leaves" | "comes" }) {
  return (
    <>
      {(ids ?? []).map((id, i) => {
        const differs = !(others ?? []).includes(id);
        return (
          <span key={id}>
            {i > 0 && ", "}
            {differs ? <b title={`broker ${id} ${sign}`}>{id}</b> : id}
          </span>
        );
      })}
    </>
  );
}

interface MovesProps {
  moves: ReplicaMove[];
  brokers: BrokerReplicas[];
  sent: number; // bytes of all of them, as is kept
  kept: number;
  folded?: boolean; // which ones is shown when one asks
}

export function Moves({ moves, brokers, sent, kept, folded }: MovesProps) {
  const table = moves.length > 0 && <Table label="moves" name="moves" columns={columns} rows={moves} rowKey={(m) => `${m.topic}-${m.partition}`} filter={(m) => `${m.topic}-${m.partition}`} sorted="topic" />;
  const most = Math.max(1, ...brokers.map((b) => Math.max(b.before, b.after)));
  return (
    <>
      <p>
        {count(moves.length)} {moves.length === 1 ? "partition moves" : "partitions move"}: about <b>{bytes(sent)}</b> are sent, <b>{bytes(kept)}</b> stay where they are, in the bucket.
      </p>
      {brokers.length > 0 && (
        <div class="loads">
          {brokers.map((b) => (
            <div key={b.id}>
              <span class="load-name">
                broker {b.id}: {b.before} → {b.after}
              </span>
              <Bar label={`broker ${b.id}, replicas afterwards`} of={most} format={String} legend={false} parts={after(b)} />
            </div>
          ))}
        </div>
      )}
      {folded ? (
        <details>
          <summary>Which partitions</summary>
          {table}
        </details>
      ) : (
        table
      )}
    </>
  );
}

// after are the replicas of a broker: those it keeps, and those that come to it.
function after(b: BrokerReplicas): { name: string; value: number; tone: 1 | 3 }[] {
  return [
    { name: "stay", value: Math.min(b.before, b.after), tone: 1 },
    { name: "come", value: Math.max(0, b.after - b.before), tone: 3 },
  ];
}
