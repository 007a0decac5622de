// What brokers are, in words and colours, and how their logs and disks stand.
import { bytes, percent, time } from "../../format";
import type { Broker, NodeFigures, NodeReport } from "../../types";
import { Badge, type Kind } from "../../ui";

// stateOf is the state of a broker; one that is drained leads nothing any more.
export function stateOf(b: Pick<Broker, "state" | "leads">): string {
  return b.state === "draining" && b.leads === 0 ? "drained" : b.state;
}

const kinds: Record<string, Kind> = { serving: "ok", fenced: "bad", draining: "warn", drained: "info" };

export function BrokerState({ broker }: { broker: Pick<Broker, "state" | "leads"> }) {
  const state = stateOf(broker);
  return <Badge kind={kinds[state] ?? "muted"}>{state}</Badge>;
}

// figuresOf are those of a broker, and why they are not known.
export function figuresOf(nodes: NodeReport[] | null | undefined, id: number): { figures: NodeFigures | undefined; unknown: string } {
  const report = nodes?.find((n) => n.broker === id);
  return { figures: report?.figures, unknown: report?.unknown ?? (nodes ? "It is not in service, so it is not asked." : "") };
}

// Log says how full the log of a broker is.
export function Log({ figures }: { figures: NodeFigures | undefined }) {
  const wal = figures?.wal;
  if (!wal) return <span class="muted">–</span>;
  return (
    <span title={`${bytes(wal.used_bytes)} of ${bytes(wal.capacity_bytes)} are used; of what produce may use, ${percent(wal.fullness)}`}>
      {percent(wal.fullness)} {wal.refused || wal.refused_partition ? <Badge kind="bad">refuses</Badge> : wal.fullness >= 0.9 ? <Badge kind="warn">nearly full</Badge> : null}
    </span>
  );
}

// Waiting says what is committed and not in the bucket yet.
export function Waiting({ figures }: { figures: NodeFigures | undefined }) {
  const upload = figures?.upload;
  if (!upload) return <span class="muted">–</span>;
  if (upload.failing_since) return <Badge kind="bad">uploads fail</Badge>;
  if (!upload.waiting_bytes) return <>nothing</>;
  return <span title={upload.waiting_since ? `the oldest has waited since ${time(upload.waiting_since)}` : undefined}>{bytes(upload.waiting_bytes)}</span>;
}

// Disk says how much of the disk of the data directory is free.
export function Disk({ figures }: { figures: NodeFigures | undefined }) {
  if (!figures?.disk_total_bytes) return <span class="muted">–</span>;
  const share = figures.disk_free_bytes / figures.disk_total_bytes;
  return (
    <span title={`${bytes(figures.disk_free_bytes)} of ${bytes(figures.disk_total_bytes)}, at ${figures.data_dir}`}>
      {bytes(figures.disk_free_bytes)} {share < 0.1 && figures.disk_free_bytes < 5 * 2 ** 30 && <Badge kind="warn">{percent(share)}</Badge>}
    </span>
  );
}
