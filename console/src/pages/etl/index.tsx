// ETL: what records of each topic pass, and the modules that do it.
import { useMemo } from "preact/hooks";
import { at } from "../../api";
import { count, duration } from "../../format";
import { useGet, useMay, usePages } from "../../hooks";
import { Link } from "../../router";
import type { ETLModule, ETLSum, EtlNodesOutputBody } from "../../types";
import { Badge, Empty, Loading, Page, ProblemView, Table, Tabs, type Column } from "../../ui";
import { Pipelines } from "./pipelines";
import { ModuleState } from "./states";

const deploy = "POST /api/v1/etl/modules/x/versions";

export default function EtlPage() {
  const may = useMay([deploy])[deploy];
  return (
    <Page
      title="ETL"
      sub="Modules of WebAssembly that filter, change and route records inside the brokers."
      actions={
        may && (
          <Link class="button primary" href="/etl/deploy">
            Deploy a module…
          </Link>
        )
      }
    >
      <Tabs
        label="Views of ETL"
        tabs={[
          { id: "pipelines", title: "Pipelines", show: () => <Pipelines mayDeploy={may ?? false} /> },
          { id: "modules", title: "Modules", show: () => <Modules /> },
        ]}
      />
    </Page>
  );
}

function Modules() {
  const { rows, error, loading, reload } = usePages<ETLModule>("/api/v1/etl/modules", "modules", { every: 5 });
  const nodes = useGet<EtlNodesOutputBody>("/api/v1/etl/nodes", { every: 5 });
  const columns = useMemo<Column<ETLModule>[]>(() => {
    const sums = new Map<string, ETLSum>((nodes.data?.modules ?? []).map((m) => [m.name, m]));
    const of = (m: ETLModule) => sums.get(m.name);
    return [
      { key: "name", title: "Module", show: (m) => <Link href={at`/etl/modules/${m.name}`}>{m.name}</Link>, sort: (m) => m.name },
      { key: "state", title: "State", show: (m) => <ModuleState module={m} />, sort: (m) => m.state },
      { key: "version", title: "Version", show: (m) => m.active || m.stands || "–", sort: (m) => m.active, right: true },
      { key: "mode", title: "Mode", show: (m) => m.mode ?? "–", sort: (m) => m.mode ?? "" },
      { key: "topics", title: "Topics", show: (m) => (m.topics ?? []).join(", "), sort: (m) => (m.topics ?? []).join(" ") },
      { key: "ready", title: "Ready on", show: (m) => <Ready module={m} sum={of(m)} />, sort: (m) => of(m)?.ready ?? -1 },
      { key: "calls", title: "Calls", show: (m) => count(of(m)?.counts.calls), sort: (m) => of(m)?.counts.calls ?? -1, right: true },
      { key: "records", title: "Records", show: (m) => count(of(m)?.counts.records), sort: (m) => of(m)?.counts.records ?? -1, right: true },
      { key: "time", title: "Time of a call", show: (m) => perCall(of(m)), sort: (m) => (of(m)?.counts.seconds ?? 0) / (of(m)?.counts.calls || 1), right: true },
      { key: "failures", title: "Failures", show: (m) => <Failures sum={of(m)} />, sort: (m) => of(m)?.counts.failures ?? -1, right: true },
    ];
  }, [nodes.data]);
  if (loading) return <Loading />;
  return (
    <>
      <ProblemView error={error ?? nodes.error} retry={reload} />
      <Table
        label="modules"
        columns={columns}
        rows={rows}
        rowKey={(m) => m.name}
        filter={(m) => `${m.name} ${m.state} ${m.mode ?? ""} ${(m.topics ?? []).join(" ")}`}
        sorted="name"
        empty={
          !error && (
            <Empty title="No module is deployed." command="rustmq admin etl deploy hide-mail --battery mask --topics orders --config @mask.json">
              <p>Modules that come with rustmq mask, filter, route and validate without a compiler.</p>
            </Empty>
          )
        }
      />
    </>
  );
}

function perCall(sum: ETLSum | undefined): string {
  return sum?.counts.seconds && sum.counts.calls > 0 ? duration(sum.counts.seconds / sum.counts.calls) : "–";
}

function Ready({ module: m, sum }: { module: ETLModule; sum: ETLSum | undefined }) {
  if (m.active === 0 || !sum) return <span class="muted">–</span>;
  const text = `${sum.ready} of ${sum.asked} brokers`;
  return sum.ready === sum.asked ? <>{text}</> : <Badge kind="warn">{text}</Badge>;
}

function Failures({ sum }: { sum: ETLSum | undefined }) {
  if (!sum) return <>–</>;
  return sum.recent_failures > 0 ? <Badge kind="warn">{count(sum.counts.failures)}</Badge> : <>{count(sum.counts.failures)}</>;
}
