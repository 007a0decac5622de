// What the states of groups mean to a reader: Kafka's names for them.
import type { Kind } from "../../ui";

const kinds: Record<string, Kind> = { Stable: "ok", Empty: "muted", Dead: "bad", PreparingRebalance: "warn", CompletingRebalance: "warn", Assigning: "warn", Reconciling: "warn" };

export function groupKind(state: string): Kind {
  return kinds[state] ?? "muted";
}
