// Who consumes a topic: groups that have committed offsets of it, and how far they are behind in it.
import { useEffect, useMemo, useState } from "preact/hooks";
import { get } from "../../api";
import { count, duration } from "../../format";
import { usePages } from "../../hooks";
import type { GroupDescription, GroupSummary } from "../../types";
import { Badge, Empty, Loading, ProblemView, Table, type Column } from "../../ui";
import { groupURL, hasPage } from "./paths";
import { GroupName } from "../groups";
import { groupKind } from "../groups/state";

const most = 50; // groups that are asked for their lag in this topic

interface Consumer extends GroupSummary {
  here?: { lag: number; behind: number | undefined; partitions: number; members: number };
}

export function Consumers({ topic }: { topic: string }) {
  const query = useMemo(() => ({ topic }), [topic]);
  const groups = usePages<GroupSummary>("/api/v1/groups", "groups", { query, every: 15 });
  const [here, setHere] = useState<Record<string, Consumer["here"]>>({});
  useEffect(() => {
    let gone = false;
    for (const g of groups.rows.filter((r) => hasPage(r.group)).slice(0, most)) {
      get<GroupDescription>(groupURL(g.group)).then(
        (d) => gone || setHere((was) => ({ ...was, [g.group]: inTopic(d, topic) })),
        () => gone || setHere((was) => ({ ...was, [g.group]: undefined })), // what it was is not what it is; the group page says why
      );
    }
    return () => {
      gone = true;
    };
  }, [groups.rows, topic]);
  const rows = useMemo(() => groups.rows.map((g): Consumer => ({ ...g, here: here[g.group] })), [groups.rows, here]);
  return (
    <>
      <ProblemView error={groups.error} retry={groups.reload} />
      {groups.loading && <Loading what="Asking the coordinators" />}
      {!groups.loading && !(groups.error && rows.length === 0) && (
        <Table
          label="groups that consume the topic"
          name="g"
          columns={columns}
          rows={rows}
          rowKey={(g) => g.group}
          filter={(g) => g.group}
          sorted="group"
          empty={<Empty title="No group has committed an offset of this topic." command={`rustmq consume ${topic} -g readers`} />}
          more={rows.length > most && <p class="hint">Of the first {most} groups the lag in this topic is shown.</p>}
        />
      )}
    </>
  );
}

function inTopic(d: GroupDescription, topic: string): NonNullable<Consumer["here"]> {
  const parts = (d.partition_list ?? []).filter((p) => p.topic === topic);
  const times = parts.map((p) => p.lag_seconds).filter((s): s is number => s !== undefined);
  return {
    lag: parts.reduce((sum, p) => sum + (p.lag_records ?? 0), 0),
    behind: times.length > 0 ? Math.max(...times) : undefined,
    partitions: parts.length,
    members: new Set(parts.map((p) => p.member_id).filter(Boolean)).size,
  };
}

const columns: Column<Consumer>[] = [
  { key: "group", title: "Group", sort: (g) => g.group, show: (g) => <GroupName group={g.group} /> },
  { key: "state", title: "State", sort: (g) => g.state, show: (g) => <Badge kind={groupKind(g.state)}>{g.state}</Badge> },
  { key: "members", title: "Members here", right: true, sort: (g) => g.here?.members ?? 0, show: (g) => count(g.here?.members) },
  { key: "partitions", title: "Partitions here", right: true, sort: (g) => g.here?.partitions ?? 0, show: (g) => count(g.here?.partitions) },
  { key: "lag", title: "Lag here", right: true, sort: (g) => g.here?.lag ?? -1, show: (g) => count(g.here?.lag) },
  { key: "behind", title: "Behind by", right: true, sort: (g) => g.here?.behind ?? -1, show: (g) => duration(g.here?.behind) },
  { key: "all", title: "Lag in all topics", right: true, sort: (g) => g.lag_records, show: (g) => count(g.lag_records) },
];
