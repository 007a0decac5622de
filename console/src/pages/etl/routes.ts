// The pages of ETL.
import type { PageRoute } from "../../router";

export const routes: PageRoute[] = [
  { path: "/etl", load: () => import("./index") },
  { path: "/etl/deploy", load: () => import("./deploy") },
  { path: "/etl/modules/:name", load: () => import("./module") },
];
