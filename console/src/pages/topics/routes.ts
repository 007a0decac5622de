// The pages of Topics.
import type { PageRoute } from "../../router";

export const routes: PageRoute[] = [
  { path: "/topics", load: () => import("./index") },
  { path: "/topics/:name", load: () => import("./topic") },
];
