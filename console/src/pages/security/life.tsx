// How much of its life something has left: drawn, and said beside it.
import { time, utc } from "../../format";
import { Badge, type Kind } from "../../ui";
import type { Expiry, Urgency } from "./expiry";

const kinds: Record<Urgency, Kind> = { ended: "bad", critical: "bad", soon: "warn", good: "ok", never: "muted", future: "info" };

export function Life({ expiry, end }: { expiry: Expiry; end?: string }) {
  const kind = kinds[expiry.urgency];
  return (
    <span class="life" title={end ? `${time(end)} (${utc(end)})` : undefined}>
      <Badge kind={kind}>{expiry.words}</Badge>
      {expiry.urgency !== "never" && (
        <span class="life-bar" aria-hidden="true">
          <span class={`life-left ${kind}`} style={{ width: `${(expiry.share * 100).toFixed(1)}%` }} />
        </span>
      )}
      {end && <span class="life-end">{time(end)}</span>}
    </span>
  );
}
