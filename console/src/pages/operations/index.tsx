// Long work that is under way, and one by its id.
import { useGet } from "../../hooks";
import { Link, type PageProps } from "../../router";
import type { OperationsOutputBody } from "../../types";
import { Empty, Loading, Page, ProblemView, Section } from "../../ui";
import { OperationView, Progress, titleOf } from "./progress";

export default function OperationsPage({ params }: PageProps) {
  return params.id === undefined ? <All /> : <One id={params.id} />;
}

function All() {
  const { data, error, loading, reload } = useGet<OperationsOutputBody>("/api/v1/operations", { every: 2 });
  const all = data?.operations ?? [];
  return (
    <Page title="Operations" sub="Long work that the cluster goes on with by itself: drains, decommissions, moves of replicas.">
      <ProblemView error={error} retry={reload} />
      {loading && <Loading />}
      {data && all.length === 0 && (
        <Empty title="Nothing is under way.">
          <p>
            A drain, a decommission or a <Link href="/brokers/rebalance">rebalance</Link> shows here for as long as it takes. It goes on whoever looks, and with the process that was asked gone.
          </p>
        </Empty>
      )}
      {all.map((o) => (
        <Section key={o.id} title={titleOf(o)} actions={o.broker !== undefined && o.broker > 0 && <Link href={`/brokers/${o.broker}`}>broker {o.broker}</Link>}>
          <OperationView operation={o} />
        </Section>
      ))}
    </Page>
  );
}

function One({ id }: { id: string }) {
  return (
    <Page title={`Operation ${id}`} sub={<Link href="/operations">All that is under way</Link>}>
      <Section title="Progress">
        <Progress id={id} />
      </Section>
    </Page>
  );
}
