// How the cluster stands, as the server tells it while the console is seen: one stream for all
// that shows something of it.
import { useEffect } from "preact/hooks";
import type { Problem } from "./api";
import { mayKnown, useMay, useStream, type StreamState } from "./hooks";
import { store } from "./store";
import type { Overview } from "./types";

export interface Live {
  state: StreamState;
  error: Problem | undefined;
  overview: Overview | undefined; // the last that came, also while the stream is lost
  allowed: boolean | undefined; // undefined: not known yet
}

export const live = store<Live>({ state: "off", error: undefined, overview: undefined, allowed: undefined });

const call = "GET /api/v1/events";
const silence = 15; // seconds; an overview comes every two

// useLive keeps the store of it; the shell alone calls it.
export function useLive(): void {
  const may = useMay([call])[call] ?? false;
  const allowed = mayKnown(call) ? may : undefined;
  const { state, error } = useStream<Overview>(allowed ? "/api/v1/events" : null, (e) => live.set({ ...live.get(), overview: e.data }), { events: ["overview"], silence });
  useEffect(() => live.set({ ...live.get(), state, error, allowed }), [state, error, allowed]);
  useEffect(() => () => live.set({ state: "off", error: undefined, overview: undefined, allowed: undefined }), []);
}
