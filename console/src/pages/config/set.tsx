// What is set on running nodes, on all or on one, and how to set and unset it. Every change is tried
// first, and refused if somebody else has changed something meanwhile.
import { useState } from "preact/hooks";
import { asProblem, getTagged, patch, type Problem } from "../../api";
import { useGet, useMay } from "../../hooks";
import type { ClusterSetting, ConfigView } from "../../types";
import { Badge, Button, Confirm, Empty, Loading, ProblemView, Section, Table, notify, type Column } from "../../ui";
import { ChangeValue } from "./change";

export const alters = "PATCH /api/v1/config";
const where = (broker: number): string => (broker < 0 ? "all nodes" : `broker ${broker}`);

// tagOf is the entity tag of what is set now.
export async function tagOf(): Promise<string> {
  return (await getTagged<ConfigView>("/api/v1/config")).tag;
}

export function SetValues() {
  const { data, error, loading, reload } = useGet<ConfigView>("/api/v1/config", { every: 15 });
  const may = useMay([alters]);
  const [changing, setChanging] = useState<ClusterSetting | "new">();
  const [unsetting, setUnsetting] = useState<{ of: ClusterSetting; tag: string }>();
  const [failed, setFailed] = useState<Problem | undefined>();
  const unset = (of: ClusterSetting) => {
    setFailed(undefined);
    tagOf().then(
      (tag) => setUnsetting({ of, tag }),
      (thrown) => setFailed(asProblem(thrown)),
    );
  };
  const own = (key: string): string | undefined => data?.settings?.find((s) => s.key === key)?.own;
  const columns: Column<ClusterSetting>[] = [
    { key: "key", title: "Key", mono: true, show: (s) => s.key, sort: (s) => s.key },
    { key: "broker", title: "On", show: (s) => (s.broker < 0 ? <Badge kind="info">all nodes</Badge> : `broker ${s.broker}`), sort: (s) => s.broker },
    { key: "value", title: "Value", mono: true, show: (s) => s.value, sort: (s) => s.value },
    { key: "own", title: "Without it, here", mono: true, show: (s) => own(s.key) ?? "–" },
    { key: "name", title: "Kafka's name", mono: true, show: (s) => s.name, sort: (s) => s.name },
  ];
  if (may[alters]) {
    columns.push({
      key: "do",
      title: "Change",
      show: (s) => (
        <span class="row-actions">
          <Button small label={`Change ${s.key} on ${where(s.broker)}`} onClick={() => setChanging(s)}>
            Change
          </Button>
          <Button small kind="danger" label={`Unset ${s.key} on ${where(s.broker)}`} onClick={() => unset(s)}>
            Unset
          </Button>
        </span>
      ),
    });
  }
  return (
    <Section
      title="Set on running nodes"
      actions={
        may[alters] &&
        data && (
          <Button kind="primary" onClick={() => setChanging("new")}>
            Set a key
          </Button>
        )
      }
    >
      <ProblemView error={error} retry={reload} />
      <ProblemView error={failed} />
      {loading && <Loading />}
      {data && (
        <Table
          label="Keys that are set"
          name="set"
          columns={columns}
          rows={data.set ?? []}
          rowKey={(s) => `${s.broker} ${s.name}`}
          filter={(s) => `${s.key} ${s.name} ${s.value}`}
          sorted="key"
          empty={
            <Empty title="Nothing is set while nodes run." command="rustmq admin config set KEY=VALUE">
              Each node obeys its own file, environment and flags. What is set here is above those, on all nodes or one, without a restart.
            </Empty>
          }
        />
      )}
      {changing && data && (
        <ChangeValue
          was={changing === "new" ? undefined : changing}
          settings={data.settings ?? []}
          onClose={() => setChanging(undefined)}
          onDone={(said) => {
            setChanging(undefined);
            notify(said);
            reload();
          }}
        />
      )}
      {unsetting && (
        <Confirm
          title="Unset"
          action="Unset"
          danger
          onClose={() => setUnsetting(undefined)}
          onConfirm={async () => {
            const { broker, key } = unsetting.of;
            await patch("/api/v1/config", { ...(broker < 0 ? {} : { broker }), delete: [key] }, { ifMatch: unsetting.tag });
            notify(`${key} is no longer set on ${where(broker)}.`);
            reload();
          }}
        >
          <p>
            <code class="name">{unsetting.of.key}</code> = <code class="name">{unsetting.of.value}</code> on {where(unsetting.of.broker)}: each of them goes back to what its own sources say, here {own(unsetting.of.key) ?? "the default"}.
          </p>
        </Confirm>
      )}
    </Section>
  );
}
