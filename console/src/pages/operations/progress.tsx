// How far long work is: a drain, a decommission, moves of replicas. Nobody keeps it: the metadata
// say what is left, and the id how much there was.
import { useEffect, useState } from "preact/hooks";
import { at } from "../../api";
import { useGet } from "../../hooks";
import { Link } from "../../router";
import type { Operation, OperationsOutputBody } from "../../types";
import { Badge, ProblemView, type Kind } from "../../ui";

const kinds: Record<string, Kind> = { running: "info", done: "ok", stuck: "bad", ended: "muted" };

export function OperationState({ state }: { state: string }) {
  return <Badge kind={kinds[state] ?? "muted"}>{state}</Badge>;
}

// titleOf names work for a person.
export function titleOf(o: Pick<Operation, "kind" | "broker">): string {
  switch (o.kind) {
    case "drain":
      return `Drain of broker ${o.broker ?? "?"}`;
    case "decommission":
      return `Decommission of broker ${o.broker ?? "?"}`;
    default:
      return "Moves of replicas";
  }
}

const unit: Record<string, string> = { drain: "leaderships", decommission: "replicas", reassignment: "moves" };

// OperationView shows one as it was told.
export function OperationView({ operation: o }: { operation: Operation }) {
  const of = unit[o.kind] ?? "parts";
  const partitions = o.partitions ?? [];
  return (
    <div class="operation">
      <p>
        <OperationState state={o.state} /> {o.what}
      </p>
      {o.total !== undefined && o.total > 0 && (
        <>
          <progress max={o.total} value={o.total - o.left} aria-label={titleOf(o)} />
          <p class="muted" role="status">
            {o.total - o.left} of {o.total} {of} done, {o.left} left
          </p>
        </>
      )}
      {!o.total && o.left > 0 && (
        <p class="muted" role="status">
          {o.left} {of} left
        </p>
      )}
      {partitions.length > 0 && (
        <p class="muted">
          Left: {partitions.join(", ")}
          {o.left > partitions.length && ` and ${o.left - partitions.length} more`}
        </p>
      )}
    </div>
  );
}

// Progress follows one by its id.
export function Progress({ id }: { id: string }) {
  const path = at`/api/v1/operations/${id}`;
  const [over, setOver] = useState(false);
  const { data, error, reload } = useGet<Operation>(path, { every: over ? 0 : 1 });
  const ends = error?.status === 404 || data?.state === "done" || data?.state === "ended";
  useEffect(() => setOver(ends), [ends]);
  return (
    <>
      <ProblemView error={error} retry={reload} />
      {data && <OperationView operation={data} />}
    </>
  );
}

// UnderWay says what is, where anything is.
export function UnderWay({ broker }: { broker?: number }) {
  const { data } = useGet<OperationsOutputBody>("/api/v1/operations", { every: 3 });
  const all = (data?.operations ?? []).filter((o) => broker === undefined || o.broker === broker);
  if (all.length === 0) return null;
  return (
    <ul class="notes" aria-label="Long work under way">
      {all.map((o) => (
        <li key={o.id}>
          <Link href={at`/operations/${o.id}`}>{titleOf(o)}</Link> <OperationState state={o.state} /> <span class="muted">{o.left > 0 && `${o.left} ${unit[o.kind] ?? ""} left`}</span>
        </li>
      ))}
    </ul>
  );
}
