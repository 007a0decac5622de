// What modules are, in words and colours.
import type { ETLModule } from "../../types";
import { Badge, type Kind } from "../../ui";

const kinds: Record<string, Kind> = { active: "ok", disabled: "muted", "budget-spent": "bad" };

export function ModuleState({ module: m }: { module: Pick<ETLModule, "state"> }) {
  return <Badge kind={kinds[m.state] ?? "muted"}>{m.state === "budget-spent" ? "error budget spent" : m.state}</Badge>;
}

// policyWords say what becomes of records that a module rejects, or fails on.
export function policyWords(mode: string | undefined, policy: string | undefined, deadLetters: string | undefined): string {
  switch (policy) {
    case "pass":
      return mode === "async" ? "they go to the output as they are" : "they stay, as if the module were not there";
    case "dead-letter":
      return `they go to ${deadLetters || "the dead-letter topic"}`;
    default:
      return "the producer's batch is refused";
  }
}
