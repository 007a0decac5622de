// The versions of a module, each with its spec, and what was done with it.
import { useState } from "preact/hooks";
import { at } from "../../api";
import { bytes } from "../../format";
import { useGet } from "../../hooks";
import type { ETLChange, ETLModule, ETLVersion, HistoryOutputBody } from "../../types";
import { Badge, Button, Dialog, Empty, Loading, ProblemView, Table, Time, type Column } from "../../ui";
import { specText } from "./spec";

interface VersionsProps {
  module: ETLModule;
  mayEnable: boolean;
  mayDelete: boolean;
  onChange: (change: "enable" | "delete", version: number) => void;
}

export function Versions({ module: m, mayEnable, mayDelete, onChange }: VersionsProps) {
  const [shown, setShown] = useState<ETLVersion | undefined>();
  const columns: Column<ETLVersion>[] = [
    { key: "number", title: "Version", show: (v) => v.number, sort: (v) => v.number },
    { key: "state", title: "State", show: (v) => (v.number === m.active ? <Badge kind="ok">active</Badge> : v.number === m.stands ? <Badge kind="bad">error budget spent</Badge> : v.number === m.previous ? "the one before" : "") },
    { key: "created", title: "Deployed", show: (v) => <Time at={v.created} />, sort: (v) => v.created },
    { key: "by", title: "By", show: (v) => v.by, sort: (v) => v.by },
    { key: "bytes", title: "Size", show: (v) => bytes(v.bytes), sort: (v) => v.bytes, right: true },
    { key: "sha", title: "SHA-256", show: (v) => <span title={v.sha256}>{v.sha256.slice(0, 12)}…</span>, mono: true },
    {
      key: "do",
      title: "Change",
      show: (v) => (
        <span class="actions">
          <Button small label={`Spec of version ${v.number}`} onClick={() => setShown(v)}>
            Spec
          </Button>
          {mayEnable && v.number !== m.active && (
            <Button small label={`Enable version ${v.number}`} onClick={() => onChange("enable", v.number)}>
              Enable…
            </Button>
          )}
          {mayDelete && v.number !== m.active && (m.versions ?? []).length > 1 && (
            <Button small label={`Delete version ${v.number}`} onClick={() => onChange("delete", v.number)}>
              Delete…
            </Button>
          )}
        </span>
      ),
    },
  ];
  return (
    <>
      <Table label="versions" columns={columns} rows={m.versions ?? []} rowKey={(v) => String(v.number)} sorted="-number" name="versions" empty={<Empty title="It has no version." />} />
      {shown && (
        <Dialog wide title={`Spec of version ${shown.number}`} onClose={() => setShown(undefined)}>
          <pre tabIndex={0}>{specText(shown.spec ?? null)}</pre>
        </Dialog>
      )}
    </>
  );
}

const history: Column<ETLChange>[] = [
  { key: "at", title: "When", show: (c) => <Time at={c.at} />, sort: (c) => c.at },
  { key: "what", title: "What", show: (c) => c.what, sort: (c) => c.what },
  { key: "version", title: "Version", show: (c) => c.version || "all", sort: (c) => c.version, right: true },
  { key: "by", title: "By", show: (c) => c.by, sort: (c) => c.by },
  { key: "reason", title: "Reason", show: (c) => c.reason ?? "" },
];

export function History({ name }: { name: string }) {
  const { data, error, loading, reload } = useGet<HistoryOutputBody>(at`/api/v1/etl/modules/${name}/history`, { every: 10 });
  if (loading) return <Loading />;
  return (
    <>
      <ProblemView error={error} retry={reload} />
      <Table
        label="changes"
        columns={history}
        rows={data?.history ?? []}
        rowKey={(c) => `${c.at} ${c.what} ${c.version}`}
        filter={(c) => `${c.what} ${c.by} ${c.reason ?? ""}`}
        sorted="-at"
        name="history"
        empty={!error && <Empty title="Nothing was done with it yet." />}
      />
    </>
  );
}
