// The list of consumer groups.
import { count, duration } from "../../format";
import { usePages } from "../../hooks";
import { Link } from "../../router";
import type { GroupSummary } from "../../types";
import { Badge, Empty, Loading, Page, ProblemView, Table, type Column } from "../../ui";
import { clamped, groupPath, hasPage, topicPath } from "../topics/paths";
import { groupKind } from "./state";

export default function GroupsPage() {
  const groups = usePages<GroupSummary>("/api/v1/groups", "groups", { every: 10 });
  const rows = groups.rows;
  return (
    <Page title="Groups" sub={groups.complete ? `${count(rows.length)} groups, ${count(rows.reduce((sum, g) => sum + g.lag_records, 0))} records behind in all` : undefined}>
      <ProblemView error={groups.error} retry={groups.reload} />
      {groups.loading ? (
        <Loading what="Asking the coordinators" />
      ) : (
        !(groups.error && rows.length === 0) && (
          <Table
            label="groups"
            columns={columns}
            rows={rows}
            rowKey={(g) => g.group}
            filter={(g) => `${g.group} ${g.state} ${g.kind} ${(g.topics ?? []).join(" ")}`}
            sorted="-lag"
            empty={
              <Empty title="There is no group yet." command="rustmq consume orders -g readers">
                <p>A group is there once a consumer joins it, or commits an offset.</p>
              </Empty>
            }
          />
        )
      )}
    </Page>
  );
}

const columns: Column<GroupSummary>[] = [
  {
    key: "group",
    title: "Group",
    sort: (g) => g.group,
    show: (g) => <GroupName group={g.group} />,
  },
  { key: "state", title: "State", sort: (g) => g.state, show: (g) => <Badge kind={groupKind(g.state)}>{g.state}</Badge> },
  { key: "protocol", title: "Protocol", sort: (g) => `${g.kind} ${g.protocol_type}`, show: (g) => `${g.kind}${g.protocol_type && g.protocol_type !== "consumer" ? ` (${g.protocol_type})` : ""}` },
  { key: "members", title: "Members", right: true, sort: (g) => g.members, show: (g) => count(g.members) },
  { key: "lag", title: "Lag", right: true, sort: (g) => g.lag_records, show: (g) => count(g.lag_records) },
  { key: "behind", title: "Behind by", right: true, sort: (g) => g.lag_seconds ?? -1, show: (g) => duration(g.lag_seconds) },
  { key: "partitions", title: "Partitions", right: true, sort: (g) => g.partitions, show: (g) => count(g.partitions) },
  { key: "topics", title: "Topics", sort: (g) => (g.topics ?? []).join(), show: (g) => <Topics names={g.topics ?? []} /> },
];

// GroupName leads to the page of a group, where it can have one.
export function GroupName({ group }: { group: string }) {
  if (!hasPage(group)) return <bdi title="No address leads to a group of this name.">{group === "" ? "(no name)" : group}</bdi>;
  return (
    <Link class={clamped(group)} title={group} href={groupPath(group)}>
      <bdi>{group}</bdi>
    </Link>
  );
}

const mostNamed = 3;

function Topics({ names }: { names: string[] }) {
  return (
    <>
      {names.slice(0, mostNamed).map((name, i) => (
        <span key={name}>
          {i > 0 && ", "}
          <Link href={topicPath(name)}>{name}</Link>
        </span>
      ))}
      {names.length > mostNamed && <span class="muted"> and {count(names.length - mostNamed)} more</span>}
    </>
  );
}
