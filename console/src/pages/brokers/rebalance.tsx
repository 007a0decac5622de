// A rebalance: the plan first, then, if one wants it, how far it is.
import { useCallback, useEffect, useState } from "preact/hooks";
import { asProblem, post, type Problem } from "../../api";
import { useMay } from "../../hooks";
import { Link, useQuery } from "../../router";
import type { Rebalance } from "../../types";
import { Button, Confirm, Empty, Loading, Page, ProblemView, Section, notify } from "../../ui";
import { Moves } from "./moves";
import { Progress } from "../operations/progress";

const path = "/api/v1/cluster/rebalance";

export default function RebalancePage() {
  const may = useMay([`POST ${path}`])[`POST ${path}`];
  const [plan, setPlan] = useState<Rebalance | undefined>();
  const [error, setError] = useState<Problem | undefined>();
  const [asks, setAsks] = useState(false);
  const [operation, setOperation] = useQuery("operation");
  const [refused, setRefused] = useState<string[]>([]);
  const look = useCallback(() => {
    setError(undefined);
    post<Rebalance>(path, { dry_run: true }).then(setPlan, (thrown) => setError(asProblem(thrown)));
  }, []);
  useEffect(() => {
    if (may) look();
  }, [may, look]);
  const moves = plan?.moves ?? [];
  const begin = async () => {
    const began = await post<Rebalance>(path, {});
    setRefused(began.refused ?? []);
    setOperation(began.operation ?? "");
    notify(began.operation ? "The moves have begun." : "Nothing had to be moved.");
    look();
  };
  return (
    <Page
      title="Rebalance"
      sub={
        <>
          Spreads replicas evenly over <Link href="/brokers">brokers</Link> and racks, by as few moves as that takes.
        </>
      }
      actions={
        <>
          {may && <Button onClick={look}>Plan anew</Button>}
          {may && moves.length > 0 && (
            <Button kind="primary" onClick={() => setAsks(true)}>
              Begin the moves…
            </Button>
          )}
        </>
      }
    >
      <ProblemView error={error} retry={look} />
      {operation && (
        <Section title="Progress">
          <Progress id={operation} />
        </Section>
      )}
      {refused.length > 0 && (
        <Section title={`${refused.length} moves did not begin`}>
          <ul>
            {refused.map((why) => (
              <li key={why}>{why}</li>
            ))}
          </ul>
        </Section>
      )}
      {!plan && !error && (may ? <Loading what="Planning" /> : <p class="muted">A plan asks for the right to alter the cluster.</p>)}
      {plan && moves.length === 0 && (
        <Empty title="Replicas are spread evenly: nothing is to be moved.">
          <p>What is moving already is not planned anew. A broker that was added is given replicas by a rebalance.</p>
        </Empty>
      )}
      {plan && moves.length > 0 && (
        <Section title="Plan">
          <Moves moves={moves} brokers={plan.brokers ?? []} sent={plan.sent_bytes} kept={plan.kept_bytes} />
        </Section>
      )}
      {asks && (
        <Confirm title="Begin the moves?" action="Begin" onConfirm={begin} onClose={() => setAsks(false)}>
          <p>The plan is made once more, and begun at once. Clients go on meanwhile; new replicas are sent what is not in the bucket yet, and come to lead once they have it.</p>
        </Confirm>
      )}
    </Page>
  );
}
