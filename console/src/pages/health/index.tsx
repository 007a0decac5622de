// The health of the cluster: everything that needs a person, the worst first, since when, and what
// helps.
import { at } from "../../api";
import { useGet, useMay } from "../../hooks";
import { Link, useQuery } from "../../router";
import type { ClusterHealth, Problem as Finding } from "../../types";
import { Badge, Empty, Loading, Page, ProblemView, Select, Time } from "../../ui";
import { commandsIn } from "./words";

const path = "/api/v1/cluster/health";

export default function Health() {
  const may = useMay([`GET ${path}`]);
  const { data, error, loading, reload } = useGet<ClusterHealth>(path, { every: 5 });
  const [severity, setSeverity] = useQuery("severity");
  const all = data?.problems ?? [];
  const shown = all.filter((f) => severity === "" || f.severity === severity);
  const critical = all.filter((f) => f.severity === "critical").length;
  return (
    <Page title="Health" sub="What needs a person, the worst first.">
      <ProblemView error={error} retry={reload} />
      {loading && <Loading what={may[`GET ${path}`] ? "Asking every node" : "Loading"} />}
      {data && (
        <>
          <div class="table-tools">
            <p role="status">
              {all.length === 0 ? (
                <Badge kind="ok">all is well</Badge>
              ) : (
                <>
                  {critical > 0 && <Badge kind="bad">{critical} critical</Badge>} {all.length > critical && <Badge kind="warn">{all.length - critical} to look at</Badge>}
                </>
              )}
            </p>
            {all.length > 1 && (
              <Select
                label="Show"
                value={severity}
                onChange={setSeverity}
                options={[
                  { value: "", label: "all" },
                  { value: "critical", label: "critical" },
                  { value: "warning", label: "warnings" },
                ]}
              />
            )}
          </div>
          {shown.map((f) => (
            <FindingView key={f.id} finding={f} />
          ))}
          {all.length === 0 && (
            <section class="card">
              <Empty title="Nothing needs you.">Every partition has a leader and its replicas, every node answers, and the bucket takes what it is given.</Empty>
            </section>
          )}
          {(data.notes ?? []).length > 0 && (
            <section class="card">
              <h2>Not as usual, and meant to be so</h2>
              <ul>
                {(data.notes ?? []).map((note) => (
                  <li key={note}>{commandsIn(note)}</li>
                ))}
              </ul>
            </section>
          )}
        </>
      )}
    </Page>
  );
}

function FindingView({ finding: f }: { finding: Finding }) {
  const partitions = f.partitions ?? [];
  return (
    <section class={`card finding ${f.severity === "critical" ? "critical" : "warning"}`} id={f.id} aria-label={f.id}>
      <h2>
        <Badge kind={f.severity === "critical" ? "bad" : "warn"}>{f.severity}</Badge> <span>{f.id}</span>
      </h2>
      <dl>
        <div>
          <dt>What is wrong</dt>
          <dd>{commandsIn(f.what)}</dd>
        </div>
        <div>
          <dt>What helps</dt>
          <dd>{commandsIn(f.do)}</dd>
        </div>
        <div>
          <dt>Since</dt>
          <dd>
            {f.since ? (
              <>
                <Time at={f.since} relative /> {f.earlier && <span class="muted">or earlier: it was there when this process began</span>}
              </>
            ) : (
              "not yet known"
            )}
          </dd>
        </div>
        {partitions.length > 0 && (
          <div>
            <dt>Partitions{partitions.length === 10 && ", the first ten"}</dt>
            <dd>
              <ul class="finding-partitions">
                {partitions.map((p) => (
                  <li key={p}>
                    <Link href={at`/topics/${p.slice(0, p.lastIndexOf("-"))}`}>{p}</Link>
                  </li>
                ))}
              </ul>
            </dd>
          </div>
        )}
      </dl>
    </section>
  );
}
