// A bar of parts that add up: bytes by tier, partitions by leader. The legend says in text what
// the bar shows.
import type { ComponentChildren } from "preact";
import { bytes } from "../format";

export interface BarPart {
  name: string;
  value: number;
  tone: 1 | 2 | 3 | 4 | 5 | 6; // colour of the theme
}

export function Bar({ parts, format = bytes, label, legend = true, of }: { parts: BarPart[]; format?: (n: number) => ComponentChildren; label: string; legend?: boolean; of?: number }) {
  const total = Math.max(of ?? 0, parts.reduce((sum, p) => sum + p.value, 0));
  return (
    <div class="bar-box">
      <div class="bar" role="img" aria-label={`${label}: ${parts.map((p) => `${p.name} ${String(format(p.value))}`).join(", ")}`}>
        {parts.map((p) => (
          <span key={p.name} class={`bar-part tone-${p.tone}`} style={{ width: total > 0 ? `${(p.value / total) * 100}%` : "0" }} title={`${p.name}: ${String(format(p.value))}`} />
        ))}
      </div>
      {legend && (
        <ul class="legend">
          {parts.map((p) => (
            <li key={p.name}>
              <span class={`key tone-${p.tone}`} aria-hidden="true" />
              {p.name} <b>{format(p.value)}</b>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
