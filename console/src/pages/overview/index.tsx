// The overview: is all well, and if not why; what goes through, how long it takes, where the bytes
// are, what they cost.
import type { ComponentChildren } from "preact";
import { bytes, count, duration, money, rate, short, time } from "../../format";
import { useGet, useMay } from "../../hooks";
import { live } from "../../live";
import { Link } from "../../router";
import { useStore } from "../../store";
import type { Cost, Overview } from "../../types";
import { Bar, Chart, Empty, KeyValue, Loading, Page, ProblemView, Section, Time, type Unit } from "../../ui";
import { useHistory, type Past } from "./history";

const costCall = "GET /api/v1/storage/cost";

export default function OverviewPage() {
  const { overview, state, allowed, error } = useStore(live);
  if (allowed === false && state === "off") {
    return (
      <Page title="Overview">
        <Empty title="The overview is for those who may describe the cluster." command="rustmq admin acl create --principal NAME --resource cluster --permissions describe">
          <p>
            What you may see is in <Link href="/topics">Topics</Link>. A rule would allow more:
          </p>
        </Empty>
      </Page>
    );
  }
  return (
    <Page title="Overview" sub={overview && holdings(overview)}>
      {state === "lost" && error && <ProblemView error={error} />}
      {overview ? <Standing overview={overview} /> : state !== "lost" && <Loading what="Asking the cluster" />}
    </Page>
  );
}

// holdings says how much there is, of users: topics of the brokers' own are counted apart.
function holdings(o: Overview): string {
  const of = (n: number, one: string, many: string) => `${count(n)} ${n === 1 ? one : many}`;
  const own = o.internal_topics > 0 ? `, beside ${of(o.internal_topics, "internal topic", "internal topics")}` : "";
  return `${of(o.brokers, "broker", "brokers")} in service, ${of(o.topics, "topic", "topics")} with ${of(o.partitions, "partition", "partitions")}${own}`;
}

function Standing({ overview }: { overview: Overview }) {
  const past = useHistory(overview);
  const f = overview.figures;
  const silent = overview.silent ?? [];
  const may = useMay([costCall]);
  const cost = useGet<Cost>(may[costCall] ? "/api/v1/storage/cost" : null, { every: 60 });
  return (
    <>
      <Verdict overview={overview} />
      {silent.length > 0 && (
        <p class="muted" role="status">
          Without {silent.map((s) => `broker ${s.broker}`).join(", ")}: {silent[0]?.why}
        </p>
      )}
      <div class="cards figures">
        <Figure name="Produced" value={rate(f["produced_bytes"], "bytes")} more={`${short(f["produced_records"])} records/s`} />
        <Figure name="Consumed" value={rate(f["fetched_bytes"], "bytes")} more={`${short(f["requests"])} requests/s of all kinds`} />
        <Figure name="Produce, 99 of 100 within" value={duration(f["produce_p99"])} more={f["produce_p99"] === null ? "nothing was produced in these seconds" : `half within ${duration(f["produce_p50"])}, 999 of 1000 within ${duration(f["produce_p999"])}`} />
        <Figure name="Connections" value={count(f["connections"])} more={`${bytes(f["waiting_bytes"])} wait for their upload`} />
      </div>
      <div class="cards wide">
        <Section title="Bytes by tier">
          <Bar
            label="Bytes by tier"
            parts={[
              { name: "Log on disk", value: f["log_bytes"] ?? 0, tone: 2 },
              { name: "Bucket", value: f["bucket_bytes"] ?? 0, tone: 1 },
            ]}
          />
          <KeyValue
            items={[
              ["Log on disk", <>{bytes(f["log_bytes"])} of all replicas; {bytes(f["memory_bytes"])} of memory hold its tail</>],
              ["Bucket", <>{bytes(f["bucket_bytes"])} of records that are kept</>],
              ["Not uploaded", bytes(f["waiting_bytes"])],
            ]}
          />
        </Section>
        {may[costCall] && (
          <Section title="Cost of the bucket">
            <ProblemView error={cost.error} retry={cost.reload} />
            {cost.data && <CostView cost={cost.data} />}
          </Section>
        )}
      </div>
      <Hour past={past} />
    </>
  );
}

function Verdict({ overview }: { overview: Overview }) {
  if (!overview.judged) return <section class="card verdict">The server has just begun, and looks at the cluster…</section>;
  const problems = overview.problems ?? [];
  const critical = problems.filter((p) => p.severity === "critical").length;
  const all = problems.length + (overview.more_problems ?? 0);
  const kind = overview.healthy ? "ok" : critical > 0 ? "bad" : "warn";
  return (
    <section class={`card verdict ${kind}`} aria-label="Health">
      <p class="verdict-line" role="status">
        {overview.healthy ? "✓ All is well." : `${critical > 0 ? "✕" : "!"} ${all} ${all === 1 ? "thing needs" : "things need"} a person${critical > 0 ? `, ${critical} of them critical` : ""}.`}
      </p>
      {problems.length > 0 && (
        <ul>
          {problems.slice(0, 5).map((p) => (
            <li key={p.id}>
              <p>
                <b>{p.severity === "critical" ? "Critical: " : "Warning: "}</b>
                {p.what}
              </p>
              <p class="muted">
                {p.do}
                {p.since && (
                  <>
                    {" "}
                    (since <Time at={p.since} />)
                  </>
                )}
              </p>
            </li>
          ))}
        </ul>
      )}
      {all > 5 && <Link href="/health">Show all {all}</Link>}
    </section>
  );
}

function Figure({ name, value, more }: { name: string; value: string; more: ComponentChildren }) {
  return (
    <div class="card">
      <p class="figure-name">{name}</p>
      <p class="figure">{value}</p>
      <p class="figure-more">{more}</p>
    </div>
  );
}

function CostView({ cost }: { cost: Cost }) {
  return (
    <KeyValue
      items={[
        ["A month", <b>{money(cost.month.storage + (cost.month.requests ?? 0))}</b>],
        ["Storage", `${money(cost.month.storage)} for ${bytes(cost.stored_bytes)}`],
        ["Requests", cost.month.requests === undefined ? "not foretold yet: the process has just begun" : `${money(cost.month.requests)}, as since ${time(cost.since)}`],
        ["On disks", `${money(cost.disks.month)} for ${cost.disks.replicas} replicas of the same records`],
        ["Prices", cost.prices.source],
      ]}
    />
  );
}

const charts: { title: string; unit: Unit; series: [string, string][] }[] = [
  { title: "Throughput", unit: "bytes/s", series: [["produced", "produced_bytes"], ["consumed", "fetched_bytes"], ["uploaded", "uploaded_bytes"]] },
  { title: "Produce latency", unit: "seconds", series: [["median", "produce_p50"], ["99%", "produce_p99"], ["99.9%", "produce_p999"]] },
  { title: "Fetch and sync latency", unit: "seconds", series: [["fetch 99%", "fetch_p99"], ["sync of the log 99%", "sync_p99"]] },
  { title: "Records and requests", unit: "count/s", series: [["records produced", "produced_records"], ["requests", "requests"]] },
];

function Hour({ past }: { past: Past }) {
  return (
    <Section title="The last hour">
      <ProblemView error={past.error} />
      {past.times.length < 2 ? (
        <p class="muted">An hour is kept by the server since its start. The first points come within seconds.</p>
      ) : (
        <div class="cards wide">
          {charts.map((c) => (
            <Chart key={c.title} title={c.title} unit={c.unit} times={past.times} series={c.series.map(([name, key]) => ({ name, values: past.figures[key] ?? [] }))} />
          ))}
        </div>
      )}
    </Section>
  );
}
