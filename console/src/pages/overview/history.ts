// An hour of the cluster: read once from the server, then what came since.
import { useEffect, useState } from "preact/hooks";
import { asProblem, get, type Problem } from "../../api";
import type { History, Overview } from "../../types";

export interface Past {
  times: number[]; // Unix seconds
  figures: Record<string, (number | null)[]>;
  error: Problem | undefined;
}

const kept = 720; // points

// useHistory grows with the server's: it asks for what is new when an overview says that time
// went on.
export function useHistory(overview: Overview): Past {
  const [past, setPast] = useState<Past>({ times: [], figures: {}, error: undefined });
  const last = past.times.at(-1) ?? 0;
  const due = Math.floor((overview.at ?? 0) / 5); // of the server's points
  useEffect(() => {
    const abort = new AbortController();
    get<History>("/api/v1/history", last > 0 ? { since: last } : undefined, { signal: abort.signal }).then(
      (more) => setPast((was) => joined(was, more)),
      (thrown) => abort.signal.aborted || setPast((was) => ({ ...was, error: asProblem(thrown) })),
    );
    return () => abort.abort();
  }, [due]);
  return past;
}

function joined(was: Past, more: History): Past {
  const last = was.times.at(-1) ?? 0;
  const times = more.times ?? [];
  const from = times.findIndex((t) => t > last);
  if (from < 0) return was.error ? { ...was, error: undefined } : was;
  const figures: Past["figures"] = {};
  for (const [name, values] of Object.entries(more.figures)) {
    figures[name] = [...(was.figures[name] ?? []), ...(values ?? []).slice(from)].slice(-kept);
  }
  return { times: [...was.times, ...times.slice(from)].slice(-kept), figures, error: undefined };
}
