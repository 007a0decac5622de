// What records of each topic pass, drawn: the stages in their order, in each the modules by
// priority, and where records leave.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { at } from "../../api";
import { usePages } from "../../hooks";
import { Link, useQuery } from "../../router";
import type { ETLPipeline, ETLStep } from "../../types";
import { Badge, Button, Empty, Loading, ProblemView } from "../../ui";

const atOnce = 50; // pipelines that are drawn before one asks for more

export function Pipelines({ mayDeploy }: { mayDeploy: boolean }) {
  const { rows, error, loading, reload } = usePages<ETLPipeline>("/api/v1/etl/pipelines", "pipelines", { every: 10 });
  const [wanted, setWanted] = useQuery("topic");
  const [most, setMost] = useState(atOnce);
  if (loading) return <Loading />;
  const kept = rows.filter((p) => p.topic.toLowerCase().includes(wanted.trim().toLowerCase()));
  return (
    <>
      <ProblemView error={error} retry={reload} />
      {rows.length === 0 && !error && (
        <Empty title="No topic that you may see has a module." command={mayDeploy ? undefined : "rustmq admin etl deploy hide-mail --battery mask --topics orders --config @mask.json"}>
          <p>Records go into the log as their producers send them. {mayDeploy && <Link href="/etl/deploy">Deploy a module</Link>}</p>
        </Empty>
      )}
      {rows.length > 0 && (
        <div class="table-tools">
          <input type="search" class="filter" aria-label="Filter topics" placeholder="Filter topics" value={wanted} onInput={(e) => setWanted(e.currentTarget.value)} />
          <span class="muted" role="status">
            {kept.length} of {rows.length} topics with modules
          </span>
        </div>
      )}
      {kept.slice(0, most).map((p) => (
        <Drawn key={p.topic} pipeline={p} />
      ))}
      {kept.length > most && <Button onClick={() => setMost(most + atOnce)}>Show {Math.min(atOnce, kept.length - most)} more</Button>}
    </>
  );
}

function Drawn({ pipeline: p }: { pipeline: ETLPipeline }) {
  const stages = p.inline ?? [];
  const readers = p.async ?? [];
  return (
    <section class="card pipeline" aria-label={`Pipeline of ${p.topic}`}>
      <h2>
        <Link href={at`/topics/${p.topic}`}>{p.topic}</Link>
      </h2>
      <ol class="flow">
        <li class="flow-end">Producers</li>
        {stages.map((s) => (
          <li key={s.stage} class="flow-stage">
            <h3>Stage {s.stage}</h3>
            <ul>
              {(s.modules ?? []).map((m) => (
                <Step key={m.name} step={m} inline />
              ))}
            </ul>
          </li>
        ))}
        <li class="flow-end">Log of {p.topic}</li>
      </ol>
      {readers.map((m) => (
        <ol key={m.name} class="flow">
          <li class="flow-end">Log of {p.topic}</li>
          <li class="flow-stage">
            <h3>Behind the producers</h3>
            <ul>
              <Step step={m} />
            </ul>
          </li>
          <li class="flow-end">
            <TopicLink name={m.output ?? ""} />
          </li>
        </ol>
      ))}
    </section>
  );
}

function Step({ step: m, inline }: { step: ETLStep; inline?: boolean }) {
  const routes = m.routes ?? [];
  const leaves: [string, ComponentChildren][] = [];
  if (routes.length > 0) leaves.push(["routes to", routes.map((r, i) => [i > 0 && ", ", <TopicLink key={r} name={r} />])]);
  if (m.dead_letter_topic) leaves.push(["dead letters to", <TopicLink name={m.dead_letter_topic} />]);
  return (
    <li class={m.spent ? "step spent" : "step"}>
      <Link href={at`/etl/modules/${m.name}`}>{m.name}</Link> <span class="muted">version {m.version}</span>{" "}
      {m.spent && <Badge kind="bad">error budget spent</Badge>}
      <span class="step-notes">
        {inline && m.priority !== 0 && <span>priority {m.priority}</span>}
        {m.conditional && <span>some records</span>}
        <span>on failure: {m.on_failure}</span>
        {leaves.map(([what, where]) => (
          <span key={what}>
            {what} {where}
          </span>
        ))}
      </span>
    </li>
  );
}

function TopicLink({ name }: { name: string }) {
  return <Link href={at`/topics/${name}`}>{name}</Link>;
}
