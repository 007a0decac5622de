// Storage: the bucket, what is where, what it costs, and whether it holds what the catalogue says.
import { useGet } from "../../hooks";
import type { BucketState } from "../../types";
import { Loading, Page, ProblemView, Tabs } from "../../ui";
import { Bucket } from "./bucket";
import { Check } from "./check";
import { CostView } from "./cost";
import { Tiers } from "./tiers";

export default function StoragePage() {
  const { data, error, loading, reload } = useGet<BucketState>("/api/v1/storage", { every: 5 });
  return (
    <Page title="Storage" sub={data && <code>{data.where}</code>}>
      <ProblemView error={error} retry={reload} />
      {loading && <Loading />}
      {data && (
        <Tabs
          label="Views of the storage"
          tabs={[
            { id: "bucket", title: "Bucket", show: () => <Bucket state={data} /> },
            { id: "tiers", title: "Tiers", show: () => <Tiers bucket={data} /> },
            { id: "cost", title: "Cost", show: () => <CostView /> },
            { id: "check", title: "Check", show: () => <Check /> },
          ]}
        />
      )}
    </Page>
  );
}
