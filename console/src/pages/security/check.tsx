// Why may somebody do something, or not: the decision by the rules of now, the rule that decided, and
// each that was looked at. The question stands in the address.
import { useEffect, useState } from "preact/hooks";
import { asProblem, post, type Problem } from "../../api";
import { setQuery, usePlace } from "../../router";
import type { ACLAnswer, ACLConsidered } from "../../types";
import { Badge, Button, Empty, Field, Form, Loading, ProblemView, Section, Select, Table, type Column } from "../../ui";
import { fullPrincipal, operationsOf, parseResource, shortResource } from "./pattern";

const columns: Column<ACLConsidered>[] = [
  { key: "counts", title: "Counts", show: (r) => (r.counts ? <Badge kind={r.permission === "deny" ? "bad" : "ok"}>it counts</Badge> : <Badge>no</Badge>), sort: (r) => (r.counts ? 0 : 1) },
  { key: "rule", title: "Rule", show: (r) => `${r.permission} ${r.principal} to ${r.operation}` },
  { key: "on", title: "On", mono: true, show: shortResource },
  { key: "host", title: "From", show: (r) => (r.host === "*" ? "anywhere" : r.host) },
  { key: "why", title: "Why", show: (r) => r.why },
];

interface Question {
  principal: string;
  operation: string;
  resource: string;
  host: string;
}

export function Check() {
  const { query } = usePlace();
  const asked: Question = { principal: query.get("as") ?? "", operation: query.get("op") ?? "", resource: query.get("on") ?? "", host: query.get("from") ?? "" };
  const [is, setIs] = useState(asked);
  const change = (part: Partial<Question>) => setIs({ ...is, ...part });
  const target = is.resource === "" ? undefined : parseResource(is.resource);
  const wrong = target && ("wrong" in target ? target.wrong : target.pattern === "prefixed" || target.name === "*" ? "Name one resource: a question is about one." : undefined);
  const offered = target && !("wrong" in target) ? (operationsOf[target.resource_type] ?? []) : [];
  const operation = offered.includes(is.operation) ? is.operation : (offered[0] ?? "");
  const ready = is.principal !== "" && target !== undefined && wrong === undefined && operation !== "";
  return (
    <Section title="Who may what, and why">
      <Form label="Question" onSubmit={() => ready && setQuery({ as: is.principal, op: operation, on: is.resource, from: is.host })}>
        <div class="fields">
          <Field label="May" value={is.principal} onInput={(principal) => change({ principal })} required placeholder="User:alice" maxLength={1024} />
          <Field label="On" value={is.resource} onInput={(resource) => change({ resource })} required mono placeholder="topic.orders" maxLength={400} error={wrong} />
          <Select label="Do" value={operation} onChange={(op) => change({ operation: op })} options={offered.length > 0 ? [...offered] : [""]} disabled={offered.length === 0} />
          <Field label="From" value={is.host} onInput={(host) => change({ host })} placeholder="any address" maxLength={64} />
        </div>
        <Button type="submit" kind="primary" disabled={!ready}>
          Ask
        </Button>
      </Form>
      <Answer key={JSON.stringify(asked)} asked={asked} />
    </Section>
  );
}

function Answer({ asked }: { asked: Question }) {
  const [answer, setAnswer] = useState<ACLAnswer>();
  const [error, setError] = useState<Problem>();
  const target = parseResource(asked.resource);
  const whole = asked.principal !== "" && asked.operation !== "" && !("wrong" in target);
  useEffect(() => {
    if (!whole || "wrong" in target) return;
    let gone = false;
    const question = { principal: fullPrincipal(asked.principal), operation: asked.operation, resource_type: target.resource_type, name: target.name, ...(asked.host === "" ? {} : { host: asked.host }) };
    post<ACLAnswer>("/api/v1/acls/check", question).then(
      (a) => gone || setAnswer(a),
      (thrown) => gone || setError(asProblem(thrown)),
    );
    return () => {
      gone = true;
    };
  }, []);
  if (!whole) {
    return <Empty title="Ask whether somebody may do something.">The answer names the rule that decides, and says of every rule that was looked at why it counts or does not.</Empty>;
  }
  if (error) return <ProblemView error={error} />;
  if (!answer) return <Loading what="Asking" />;
  return (
    <div role="status">
      <div class="decision">
        <Badge kind={answer.allowed ? "ok" : "bad"}>{answer.allowed ? "allowed" : "denied"}</Badge>
        <p>{answer.why}</p>
      </div>
      {answer.note && (
        <p>
          <Badge kind="warn">note</Badge> {answer.note}
        </p>
      )}
      <Table label="Rules that were looked at" name="looked" columns={columns} rows={answer.rules ?? []} rowKey={(r) => JSON.stringify(r)} sorted="counts" empty={<p class="muted">No rule had to be looked at.</p>} />
    </div>
  );
}
