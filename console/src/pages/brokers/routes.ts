// The pages of Brokers.
import type { PageRoute } from "../../router";

export const routes: PageRoute[] = [
  { path: "/brokers", load: () => import("./index") },
  { path: "/brokers/rebalance", load: () => import("./rebalance") }, // before what has an id there
  { path: "/brokers/:id", load: () => import("./broker") },
];
