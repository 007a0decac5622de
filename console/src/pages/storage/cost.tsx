// What the bucket costs at list prices, beside the same records on replicated disks.
import { bytes, count, money, percent } from "../../format";
import { useGet } from "../../hooks";
import type { Cost, RequestCost } from "../../types";
import { Bar, KeyValue, Loading, ProblemView, Section, Table, Time, type Column } from "../../ui";

export function CostView() {
  const { data: c, error, loading, reload } = useGet<Cost>("/api/v1/storage/cost", { every: 10 });
  if (loading) return <Loading />;
  if (!c) return <ProblemView error={error} retry={reload} />;
  const prices: Record<string, number> = { put: c.prices.put, get: c.prices.get, head: c.prices.get, list: c.prices.list };
  const columns: Column<RequestCost>[] = [
    { key: "class", title: "Request", show: (r) => r.class, sort: (r) => r.class },
    { key: "requests", title: "Number", show: (r) => count(r.requests), sort: (r) => r.requests, right: true },
    { key: "bytes", title: "Bytes", show: (r) => bytes(r.bytes), sort: (r) => r.bytes, right: true },
    { key: "price", title: "Price of 1000", show: (r) => money(prices[r.class]), sort: (r) => prices[r.class] ?? 0, right: true },
    { key: "dollars", title: "Cost", show: (r) => money(r.dollars), sort: (r) => r.dollars, right: true },
  ];
  return (
    <>
      <ProblemView error={error} retry={reload} />
      <div class="cards wide">
        <Section title="A month">
          <p class="figure">{money(c.month.storage + (c.month.requests ?? 0))}</p>
          <KeyValue
            items={[
              ["Storage, as it is now", money(c.month.storage)],
              ["Requests, at the rate since the start", c.month.requests === undefined ? "not foretold from less than a minute" : money(c.month.requests)],
            ]}
          />
        </Section>
        <Section title="Beside replicated disks">
          <Bar
            label="a GiB of records and month"
            format={money}
            of={Math.max(c.disks.dollars_per_gib_month, c.dollars_per_gib_month)}
            parts={[{ name: "bucket", value: c.dollars_per_gib_month, tone: 4 }]}
          />
          <Bar label="a GiB of records and month, on disks" format={money} of={Math.max(c.disks.dollars_per_gib_month, c.dollars_per_gib_month)} parts={[{ name: `disks: ${c.disks.replicas} replicas, ${percent(c.disks.filled)} full`, value: c.disks.dollars_per_gib_month, tone: 2 }]} />
          <p class="muted">
            For each GiB of records and month.
            {c.cheaper > 0 && ` Storage in the bucket is ${c.cheaper.toFixed(1)} times cheaper, the disk of the log left out.`}
          </p>
        </Section>
        <Section title="Written">
          <KeyValue
            items={[
              ["Uploaded by this process", bytes(c.written_bytes)],
              ["Requests for each GiB", c.dollars_per_gib_written === undefined ? "nothing was written yet" : money(c.dollars_per_gib_written)],
              ["Each byte was put", c.amplification === undefined ? undefined : `${c.amplification.toFixed(1)} times`],
              ["On disks, each GiB", `${money(c.disks.dollars_per_gib_written)}: the copies in two other zones`],
            ]}
          />
        </Section>
        <Section title="Stored">
          <KeyValue
            items={[
              ["Records", bytes(c.record_bytes)],
              ["Objects", bytes(c.stored_bytes)],
              ["On disks, a month", money(c.disks.month)],
            ]}
          />
        </Section>
      </div>
      <Section title="Requests of the process that answers">
        <p class="muted">
          Counted since <Time at={c.since} />; together {money(c.request_dollars)}. Every process counts its own.
        </p>
        <Table label="requests" columns={columns} rows={c.requests ?? []} rowKey={(r) => r.class} name="cost" />
      </Section>
      <p class="muted">Prices: {c.prices.source}. Machines, the disk of the log, and what leaves the store's network are not part of it.</p>
    </>
  );
}
