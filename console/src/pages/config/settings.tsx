// What the process that answers obeys, key by key, and where that comes from.
import { useGet } from "../../hooks";
import { useQuery } from "../../router";
import type { ConfigView, Setting } from "../../types";
import { Badge, Check, Loading, ProblemView, Section, Table, type Column } from "../../ui";

const columns: Column<Setting>[] = [
  { key: "key", title: "Key", mono: true, show: (s) => s.key, sort: (s) => s.key },
  { key: "value", title: "Value", mono: true, show: (s) => (s.value === "" ? <span class="muted">(empty)</span> : s.value), sort: (s) => s.value },
  { key: "source", title: "From", show: (s) => s.source, sort: (s) => s.source },
  {
    key: "state",
    title: "State",
    show: (s) => (
      <>
        {s.refused && (
          <span title={s.refused}>
            <Badge kind="bad">set, and not obeyed: {s.refused}</Badge>
          </span>
        )}
        {s.waits && <Badge kind="warn">its file says something else: waits for a restart</Badge>}
        {s.live && <Badge kind="info">{s.live === "cluster" ? "may change, for all" : "may change"}</Badge>}
      </>
    ),
    sort: (s) => (s.refused ? 0 : s.waits ? 1 : s.live ? 2 : 3),
  },
  { key: "default", title: "Default", mono: true, show: (s) => (s.default === "" ? <span class="muted">(empty)</span> : s.default) },
];

export function Settings() {
  const { data, error, loading, reload } = useGet<ConfigView>("/api/v1/config", { every: 30 });
  const [all, setAll] = useQuery("all");
  const rows = (data?.settings ?? []).filter((s) => all === "1" || s.source !== "default" || s.refused || s.waits);
  return (
    <Section title={data ? `What node ${data.node} obeys` : "What this node obeys"}>
      <ProblemView error={error} retry={reload} />
      {loading && <Loading />}
      {data && (
        <>
          <p class="hint">Of the process that answers. Values that may be secret are not shown.</p>
          <Table
            label="Keys"
            name="key"
            columns={columns}
            rows={rows}
            rowKey={(s) => s.key}
            filter={(s) => `${s.key} ${s.value} ${s.source}`}
            actions={<Check label="Defaults too" checked={all === "1"} onChange={(on) => setAll(on ? "1" : "")} />}
            empty={
              <p>
                Every key has its default.{" "}
                <button type="button" class="button small plain" onClick={() => setAll("1")}>
                  Show them
                </button>
              </p>
            }
          />
        </>
      )}
    </Section>
  );
}
